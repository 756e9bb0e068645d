//! Encryption, authentication and authorisation. A value that asks for any of them is refused: a
//! listener that is open although it was configured not to be is worse than none.

use crate::topics::definition::{
    Definition, Kind, Rule, boolean, double, int, list, long, short, string,
};
use crate::topics::reasons::{DELEGATION, SECURITY};

pub(super) const CONFIGS: &[Definition] = &[
    string("authorizer.class.name", "").refused(SECURITY),
    string(
        "principal.builder.class",
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
    )
    .of(Kind::Class)
    .refused(SECURITY),
    string("security.inter.broker.protocol", "PLAINTEXT").refused(SECURITY),
    string("security.providers", "").null().refused(SECURITY),
    int("connection.failed.authentication.delay.ms", "100")
        .at_least(0.0)
        .refused(SECURITY),
    long("connections.max.reauth.ms", "0").refused(SECURITY),
    long("delegation.token.expiry.check.interval.ms", "3600000")
        .at_least(1.0)
        .refused(DELEGATION),
    long("delegation.token.expiry.time.ms", "86400000")
        .at_least(1.0)
        .refused(DELEGATION),
    long("delegation.token.max.lifetime.ms", "604800000")
        .at_least(1.0)
        .refused(DELEGATION),
    string("delegation.token.secret.key", "")
        .of(Kind::Password)
        .null()
        .refused(DELEGATION),
    string("sasl.client.callback.handler.class", "")
        .of(Kind::Class)
        .null()
        .refused(SECURITY),
    list("sasl.enabled.mechanisms", "GSSAPI").refused(SECURITY),
    string("sasl.jaas.config", "")
        .of(Kind::Password)
        .null()
        .refused(SECURITY),
    string("sasl.kerberos.kinit.cmd", "/usr/bin/kinit").refused(SECURITY),
    long("sasl.kerberos.min.time.before.relogin", "60000").refused(SECURITY),
    list("sasl.kerberos.principal.to.local.rules", "DEFAULT").refused(SECURITY),
    string("sasl.kerberos.service.name", "")
        .null()
        .refused(SECURITY),
    double("sasl.kerberos.ticket.renew.jitter", "0.05").refused(SECURITY),
    double("sasl.kerberos.ticket.renew.window.factor", "0.8").refused(SECURITY),
    string("sasl.login.callback.handler.class", "")
        .of(Kind::Class)
        .null()
        .refused(SECURITY),
    string("sasl.login.class", "")
        .of(Kind::Class)
        .null()
        .refused(SECURITY),
    int("sasl.login.connect.timeout.ms", "")
        .null()
        .refused(SECURITY),
    int("sasl.login.read.timeout.ms", "")
        .null()
        .refused(SECURITY),
    short("sasl.login.refresh.buffer.seconds", "300").refused(SECURITY),
    short("sasl.login.refresh.min.period.seconds", "60").refused(SECURITY),
    double("sasl.login.refresh.window.factor", "0.8").refused(SECURITY),
    double("sasl.login.refresh.window.jitter", "0.05").refused(SECURITY),
    long("sasl.login.retry.backoff.max.ms", "10000").refused(SECURITY),
    long("sasl.login.retry.backoff.ms", "100").refused(SECURITY),
    string("sasl.mechanism.controller.protocol", "GSSAPI").refused(SECURITY),
    string("sasl.mechanism.inter.broker.protocol", "GSSAPI").refused(SECURITY),
    string("sasl.oauthbearer.assertion.algorithm", "RS256").refused(SECURITY),
    string("sasl.oauthbearer.assertion.claim.aud", "")
        .null()
        .refused(SECURITY),
    int("sasl.oauthbearer.assertion.claim.exp.seconds", "300")
        .rule(Rule::Between(0.0, 86_400.0))
        .refused(SECURITY),
    string("sasl.oauthbearer.assertion.claim.iss", "")
        .null()
        .refused(SECURITY),
    boolean("sasl.oauthbearer.assertion.claim.jti.include", "false").refused(SECURITY),
    int("sasl.oauthbearer.assertion.claim.nbf.seconds", "60")
        .rule(Rule::Between(0.0, 3_600.0))
        .refused(SECURITY),
    string("sasl.oauthbearer.assertion.claim.sub", "")
        .null()
        .refused(SECURITY),
    string("sasl.oauthbearer.assertion.file", "")
        .null()
        .refused(SECURITY),
    string("sasl.oauthbearer.assertion.private.key.file", "")
        .null()
        .refused(SECURITY),
    string("sasl.oauthbearer.assertion.private.key.passphrase", "")
        .of(Kind::Password)
        .null()
        .refused(SECURITY),
    string("sasl.oauthbearer.assertion.template.file", "")
        .null()
        .refused(SECURITY),
    string("sasl.oauthbearer.client.credentials.client.id", "")
        .null()
        .refused(SECURITY),
    string("sasl.oauthbearer.client.credentials.client.secret", "")
        .of(Kind::Password)
        .null()
        .refused(SECURITY),
    int("sasl.oauthbearer.clock.skew.seconds", "30").refused(SECURITY),
    list("sasl.oauthbearer.expected.audience", "").refused(SECURITY),
    string("sasl.oauthbearer.expected.issuer", "")
        .null()
        .refused(SECURITY),
    long("sasl.oauthbearer.jwks.endpoint.refresh.ms", "3600000").refused(SECURITY),
    long(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        "10000",
    )
    .refused(SECURITY),
    long("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "100").refused(SECURITY),
    string("sasl.oauthbearer.jwks.endpoint.url", "")
        .null()
        .refused(SECURITY),
    string(
        "sasl.oauthbearer.jwt.retriever.class",
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever",
    )
    .of(Kind::Class)
    .refused(SECURITY),
    string(
        "sasl.oauthbearer.jwt.validator.class",
        "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator",
    )
    .of(Kind::Class)
    .refused(SECURITY),
    string("sasl.oauthbearer.scope", "")
        .null()
        .refused(SECURITY),
    string("sasl.oauthbearer.scope.claim.name", "scope").refused(SECURITY),
    string("sasl.oauthbearer.sub.claim.name", "sub").refused(SECURITY),
    string("sasl.oauthbearer.token.endpoint.url", "")
        .null()
        .refused(SECURITY),
    string("sasl.server.callback.handler.class", "")
        .of(Kind::Class)
        .null()
        .refused(SECURITY),
    int("sasl.server.max.receive.size", "524288").refused(SECURITY),
    boolean("ssl.allow.dn.changes", "false").refused(SECURITY),
    boolean("ssl.allow.san.changes", "false").refused(SECURITY),
    list("ssl.cipher.suites", "").refused(SECURITY),
    string("ssl.client.auth", "none").refused(SECURITY),
    list("ssl.enabled.protocols", "TLSv1.2,TLSv1.3").refused(SECURITY),
    string("ssl.endpoint.identification.algorithm", "https").refused(SECURITY),
    string("ssl.engine.factory.class", "")
        .of(Kind::Class)
        .null()
        .refused(SECURITY),
    string("ssl.key.password", "")
        .of(Kind::Password)
        .null()
        .refused(SECURITY),
    string("ssl.keymanager.algorithm", "SunX509").refused(SECURITY),
    string("ssl.keystore.certificate.chain", "")
        .of(Kind::Password)
        .null()
        .refused(SECURITY),
    string("ssl.keystore.key", "")
        .of(Kind::Password)
        .null()
        .refused(SECURITY),
    string("ssl.keystore.location", "").null().refused(SECURITY),
    string("ssl.keystore.password", "")
        .of(Kind::Password)
        .null()
        .refused(SECURITY),
    string("ssl.keystore.type", "JKS").refused(SECURITY),
    string("ssl.principal.mapping.rules", "DEFAULT").refused(SECURITY),
    string("ssl.protocol", "TLSv1.3").refused(SECURITY),
    string("ssl.provider", "").null().refused(SECURITY),
    string("ssl.secure.random.implementation", "")
        .null()
        .refused(SECURITY),
    string("ssl.trustmanager.algorithm", "PKIX").refused(SECURITY),
    string("ssl.truststore.certificates", "")
        .of(Kind::Password)
        .null()
        .refused(SECURITY),
    string("ssl.truststore.location", "")
        .null()
        .refused(SECURITY),
    string("ssl.truststore.password", "")
        .of(Kind::Password)
        .null()
        .refused(SECURITY),
    string("ssl.truststore.type", "JKS").refused(SECURITY),
];
