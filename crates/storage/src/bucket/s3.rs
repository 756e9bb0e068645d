//! Where an S3 bucket is and as whom it is used.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{ProvideCredentials, SharedCredentialsProvider};
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::{ClientOptions, CredentialProvider, RetryConfig};
use tokio::sync::Mutex;

use super::bootstrap::Admin;
use super::error::{OpenError, words};
use super::objects::Objects;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One HTTP request, body included. The bucket gives up sooner where there is less to transfer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Idle connections kept for the next requests.
const IDLE_CONNECTIONS: usize = 64;

/// Credentials are renewed this long before they end.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// Opens a bucket, making it when it is missing.
pub(super) async fn open(bucket: &str, prefix: String) -> Result<Objects, OpenError> {
    let objects = existing(bucket, prefix).await?;
    objects.ensure_bucket().await?;
    Ok(objects)
}

/// Reaches for a bucket without asking whether it is there.
pub(super) async fn existing(bucket: &str, prefix: String) -> Result<Objects, OpenError> {
    let endpoint =
        std::env::var("AWS_ENDPOINT_URL_S3").or_else(|_| std::env::var("AWS_ENDPOINT_URL"));
    let endpoint = endpoint.ok().filter(|endpoint| !endpoint.is_empty());
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new());
    // Asking the instance for its region takes seconds where there is no instance to ask.
    let region = match &endpoint {
        Some(_) => region.or_else(Region::new("us-east-1")),
        None => region.or_else(aws_config::imds::region::ImdsRegionProvider::builder().build()),
    };
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .region(region)
        .load()
        .await;
    let endpoint = endpoint.or_else(|| sdk.endpoint_url().map(str::to_owned));
    let region = sdk
        .region()
        .map_or("us-east-1", |region| region.as_ref())
        .to_owned();

    let admin = Admin::new(&sdk, bucket, &region, endpoint.as_deref());

    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_region(region)
        .with_retry(retries())
        // Objects are deleted one by one, and not every store knows the bulk request.
        .with_disable_bulk_delete(true)
        .with_client_options(client_options(endpoint.as_deref()));
    if let Some(credentials) = Credentials::of(&sdk) {
        builder = builder.with_credentials(Arc::new(credentials));
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let store = builder
        .build()
        .map_err(|error| OpenError(format!("s3://{bucket} cannot be used: {}", words(&error))))?;
    Ok(Objects::s3(store, admin, prefix))
}

fn client_options(endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_pool_max_idle_per_host(IDLE_CONNECTIONS)
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
}

/// None: the bucket itself tries again, within a budget, and must hear of every refusal.
fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// The AWS SDK's credentials (variables, profiles, web identity, container and instance roles) for
/// `object_store`, which knows no profiles.
struct Credentials {
    provider: SharedCredentialsProvider,
    current: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

impl Credentials {
    fn of(sdk: &SdkConfig) -> Option<Self> {
        Some(Self {
            provider: sdk.credentials_provider()?,
            current: Mutex::new(None),
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut current = self.current.lock().await;
        if let Some((credential, expiry)) = &*current
            && expiry.is_none_or(|expiry| SystemTime::now() + RENEW_BEFORE < expiry)
        {
            return Ok(Arc::clone(credential));
        }
        let found = match self.provider.provide_credentials().await {
            Ok(found) => found,
            Err(error) => {
                // Those that are about to end are better than none.
                if let Some((credential, Some(expiry))) = &*current
                    && SystemTime::now() < *expiry
                {
                    return Ok(Arc::clone(credential));
                }
                return Err(object_store::Error::Generic {
                    store: "S3",
                    source: error.into(),
                });
            }
        };
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *current = Some((Arc::clone(&credential), found.expiry()));
        Ok(credential)
    }
}
