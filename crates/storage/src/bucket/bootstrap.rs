//! What only the AWS SDK can do: look at a bucket, make it, and complete a multipart upload on a
//! condition.

use std::fmt;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    BucketLocationConstraint, CompletedMultipartUpload, CompletedPart, CreateBucketConfiguration,
};

use super::error::{Failure, OpenError, words};

/// One attempt of one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One attempt at completing an upload, which the store may take long over.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(60);

/// The AWS SDK for one bucket.
pub(super) struct Admin {
    client: Client,
    bucket: String,
    region: String,
    endpoint: Option<String>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// A failed call, reduced to what is told to people.
struct Refusal {
    status: Option<u16>,
    code: String,
    words: String,
    /// Where the bucket is, if the store said so.
    region: Option<String>,
}

impl Refusal {
    fn of<E>(error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = error.raw_response();
        let region = answer.and_then(|answer| answer.headers().get("x-amz-bucket-region"));
        Self {
            status: answer.map(|answer| answer.status().as_u16()),
            code: error.code().unwrap_or_default().to_owned(),
            words: match (error.code(), error.message()) {
                (Some(code), Some(message)) => format!("{code}: {message}"),
                _ => words(error),
            },
            region: region.map(str::to_owned),
        }
    }
}

impl Admin {
    pub(super) fn new(sdk: &SdkConfig, bucket: &str, region: &str, endpoint: Option<&str>) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(TIMEOUT / 2)
            .operation_attempt_timeout(TIMEOUT);
        let mut config = Builder::from(sdk)
            .timeout_config(timeouts.build())
            .retry_config(RetryConfig::standard().with_max_attempts(3));
        if let Some(endpoint) = endpoint {
            // Other servers than AWS rarely have a name for each bucket.
            config = config.endpoint_url(endpoint).force_path_style(true);
        }
        Self {
            client: Client::from_conf(config.build()),
            bucket: bucket.to_owned(),
            region: region.to_owned(),
            endpoint: endpoint.map(str::to_owned),
        }
    }

    /// Makes the bucket when it is missing.
    pub(super) async fn ensure_bucket(&self) -> Result<(), OpenError> {
        let head = self.client.head_bucket().bucket(&self.bucket).send().await;
        let Err(error) = head else { return Ok(()) };
        let refusal = Refusal::of(&error);
        match refusal.status {
            Some(404) => self.create_bucket().await,
            Some(301 | 307) => Err(self.wrong_region(&refusal)),
            Some(400)
                if refusal
                    .region
                    .as_ref()
                    .is_some_and(|region| *region != self.region) =>
            {
                Err(self.wrong_region(&refusal))
            }
            Some(400 | 403) => {
                // The answer to a HEAD has no body; a listing says what is wrong.
                let list = self
                    .client
                    .list_objects_v2()
                    .bucket(&self.bucket)
                    .max_keys(1);
                match list.send().await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(self.explain(&Refusal::of(&error), "s3:ListBucket")),
                }
            }
            _ => Err(self.explain(&refusal, "s3:ListBucket")),
        }
    }

    async fn create_bucket(&self) -> Result<(), OpenError> {
        let mut request = self.client.create_bucket().bucket(&self.bucket);
        if self.region != "us-east-1" {
            let place = BucketLocationConstraint::from(self.region.as_str());
            let place = CreateBucketConfiguration::builder().location_constraint(place);
            request = request.create_bucket_configuration(place.build());
        }
        let Err(error) = request.send().await else {
            tracing::info!(bucket = %self.bucket, region = %self.region, "made the bucket");
            return Ok(());
        };
        let refusal = Refusal::of(&error);
        let bucket = &self.bucket;
        match refusal.code.as_str() {
            "BucketAlreadyOwnedByYou" => Ok(()),
            "BucketAlreadyExists" => Err(OpenError(format!(
                "s3://{bucket}: this name belongs to another account; choose another bucket name"
            ))),
            "AccessDenied" => Err(OpenError(format!(
                "s3://{bucket} does not exist and the credentials lack s3:CreateBucket: make the \
                 bucket in region {}, or grant them that permission",
                self.region
            ))),
            _ => Err(self.explain(&refusal, "s3:CreateBucket")),
        }
    }

    fn wrong_region(&self, refusal: &Refusal) -> OpenError {
        let (bucket, region) = (&self.bucket, &self.region);
        OpenError(match &refusal.region {
            Some(place) => format!(
                "s3://{bucket} is in region {place}, not in {region}: set AWS_REGION={place}"
            ),
            None => format!(
                "s3://{bucket} is not in region {region}: set AWS_REGION to the bucket's region"
            ),
        })
    }

    fn explain(&self, refusal: &Refusal, permission: &str) -> OpenError {
        let (bucket, said) = (&self.bucket, &refusal.words);
        let what = match refusal.code.as_str() {
            "InvalidAccessKeyId" => {
                "the store does not know the access key: check AWS_ACCESS_KEY_ID or AWS_PROFILE"
                    .to_owned()
            }
            "SignatureDoesNotMatch" => {
                "the secret key is wrong: check AWS_SECRET_ACCESS_KEY or AWS_PROFILE".to_owned()
            }
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
                "the session token has expired or is wrong: sign in again, or unset \
                 AWS_SESSION_TOKEN"
                    .to_owned()
            }
            "RequestTimeTooSkewed" => {
                "this machine's clock differs from the store's: set it right".to_owned()
            }
            "InvalidBucketName" => {
                "S3 does not allow this name for a bucket (3 to 63 lower-case letters, digits, dots \
                 and hyphens)"
                    .to_owned()
            }
            "PermanentRedirect" | "AuthorizationHeaderMalformed" => {
                return self.wrong_region(refusal);
            }
            "AccessDenied" | "AllAccessDisabled" => format!(
                "the credentials lack {permission} on it, or it belongs to another account: grant \
                 s3:ListBucket on the bucket and s3:PutObject, s3:GetObject and s3:DeleteObject on \
                 its objects"
            ),
            _ if refusal.status.is_some() => format!("the store answered: {said}"),
            _ if said.contains("credentials") => format!(
                "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                 AWS_PROFILE, or run with an instance or container role ({said})"
            ),
            _ => match &self.endpoint {
                Some(endpoint) => format!(
                    "{endpoint} cannot be reached: check AWS_ENDPOINT_URL and that the store is \
                     running ({said})"
                ),
                None => format!(
                    "S3 in region {} cannot be reached: check the network, or set AWS_ENDPOINT_URL \
                     for another store ({said})",
                    self.region
                ),
            },
        };
        OpenError(format!("s3://{bucket}: {what}"))
    }

    /// Completes an upload whose parts are `tags`, in order; fails with [`Failure::Exists`] when the
    /// key is taken, or may be.
    pub(super) async fn complete(
        &self,
        key: &str,
        upload: &str,
        tags: Vec<String>,
    ) -> Result<(), Failure> {
        let parts = (1..).zip(tags);
        let parts =
            parts.map(|(n, tag)| CompletedPart::builder().part_number(n).e_tag(tag).build());
        let upload_parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect()));
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(COMPLETE_TIMEOUT)
            .build();
        let answer = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload)
            .multipart_upload(upload_parts.build())
            .if_none_match("*")
            .customize()
            .config_override(Builder::new().timeout_config(timeouts))
            .send()
            .await;
        let Err(error) = answer else { return Ok(()) };
        let refusal = Refusal::of(&error);
        Err(match (refusal.status, refusal.code.as_str()) {
            // The upload is gone: completed by an earlier attempt whose answer was lost.
            (Some(409 | 412), _) | (_, "NoSuchUpload") => Failure::Exists,
            (Some(401 | 403 | 501), _) => Failure::Denied(refusal.words),
            (Some(429 | 503), _) => Failure::SlowDown(refusal.words),
            _ => Failure::Unavailable(refusal.words),
        })
    }
}
