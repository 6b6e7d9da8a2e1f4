//! Access to an API server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use roadbed_store::{KubernetesConfig, Store, StoreConfig, StoreError};
use thiserror::Error;
use tower::ServiceBuilder;

use crate::failure::chain;
use crate::store::KubeStore;

/// Longest time for a connection attempt.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection without a packet for this long is asked whether its other end is alive (TCP keepalive).
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Pause between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(4);
/// Questions without an answer that end the connection. With the two above: 22 s after the last packet.
const KEEPALIVE_RETRIES: u32 = 3;
/// The same for a connection on which we sent something that nobody acknowledged (`TCP_USER_TIMEOUT`).
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// A client of one API server, and its name for people.
#[derive(Clone)]
pub struct Access {
    pub(crate) client: Client,
    /// `kubernetes https://10.0.0.1:6443`
    pub(crate) home: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("home", &self.home).finish()
    }
}

/// Nothing can be asked, since it is not known whom or as whom. Nothing was sent.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The kubeconfig cannot be read, or lacks what it names.
    #[error("kubeconfig {path}: {reason}")]
    Kubeconfig {
        /// The files.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// No kubeconfig was named, and this is no pod.
    #[error("no ServiceAccount of a pod is here ({0}): name a kubeconfig")]
    InCluster(String),
    /// The URL in place of the configured one is none.
    #[error("api_server: \"{url}\" is not a URL such as https://10.0.0.1:6443: {reason}")]
    ApiServer {
        /// The text.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The kubeconfig wants a proxy, which this client does not speak with.
    #[error(
        "proxy-url of the kubeconfig: connections through a proxy are not supported; reach {0} directly"
    )]
    Proxy(String),
    /// Certificates, keys or credential plugins cannot be used.
    #[error("the credentials for {server} cannot be used: {reason}")]
    Credentials {
        /// The API server.
        server: String,
        /// What is wrong.
        reason: String,
    },
}

impl Access {
    /// Reads the configuration and makes a client; asks the server nothing. Tokens and CA bundles in files are read
    /// again every minute.
    ///
    /// # Errors
    /// When what the configuration names cannot be used.
    pub async fn new(config: &KubernetesConfig) -> Result<Self, AccessError> {
        let mut client = client_config(config).await?;
        if let Some(url) = &config.api_server {
            client.cluster_url = api_server(url)?;
        }
        if client.proxy_url.is_some() {
            return Err(AccessError::Proxy(client.cluster_url.to_string()));
        }
        client.connect_timeout = Some(CONNECT);
        // A server that says "too many requests" is asked again by whoever asked, with a patience of its own.
        client.default_retry = false;
        let server = client.cluster_url.to_string();
        let server = server.trim_end_matches('/').to_owned();
        let client = connect(client).map_err(|error| AccessError::Credentials {
            server: server.clone(),
            reason: chain(&error),
        })?;
        Ok(Self {
            client,
            home: format!("kubernetes {server}"),
        })
    }
}

async fn client_config(config: &KubernetesConfig) -> Result<Config, AccessError> {
    let Some(paths) = &config.kubeconfig else {
        return Config::incluster().map_err(|e| AccessError::InCluster(chain(&e)));
    };
    let wrong = |error: &dyn std::error::Error| AccessError::Kubeconfig {
        path: paths.clone(),
        reason: chain(error),
    };
    let mut merged = Kubeconfig::default();
    for path in paths.split(':').filter(|p| !p.is_empty()) {
        let read = Kubeconfig::read_from(Path::new(path)).map_err(|e| wrong(&e))?;
        merged = merged.merge(read).map_err(|e| wrong(&e))?;
    }
    let options = KubeConfigOptions {
        context: config.context.clone(),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(merged, &options)
        .await
        .map_err(|e| wrong(&e))
}

fn api_server(url: &str) -> Result<http::Uri, AccessError> {
    let wrong = |reason: String| AccessError::ApiServer {
        url: url.to_owned(),
        reason,
    };
    let uri: http::Uri = url
        .parse()
        .map_err(|e: http::uri::InvalidUri| wrong(e.to_string()))?;
    match uri.scheme_str() {
        Some("https" | "http") if uri.host().is_some() => Ok(uri),
        _ => Err(wrong("it needs https:// and a host".to_owned())),
    }
}

/// As `kube` would, but over connections that notice when their other end is gone: a node that lost its power, or a
/// firewall that forgot the connection, never says so.
fn connect(config: Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let https = config.rustls_https_connector_with_connector(tcp)?;
    let http: hyper_util::client::legacy::Client<_, Body> =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(tower::BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// Opens a store of any kind; none is created.
///
/// # Errors
/// [`StoreError::Refused`] when the settings cannot be used. A server that does not answer is no error: every call
/// then answers [`StoreError::Unavailable`].
pub async fn open_store(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    match config {
        StoreConfig::Kubernetes(kubernetes) => {
            let access = Access::new(kubernetes)
                .await
                .map_err(|error| StoreError::Refused {
                    home: "kubernetes".to_owned(),
                    reason: error.to_string(),
                })?;
            Ok(Arc::new(KubeStore::new(access)))
        }
        other => roadbed_store::open(other).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_api_servers() {
        assert!(api_server("https://10.0.0.1:6443").is_ok());
        assert!(api_server("https://[fd00::1]:6443/").is_ok());
        for wrong in ["10.0.0.1:6443", "", "https://", "ftp://10.0.0.1"] {
            let error = api_server(wrong).unwrap_err().to_string();
            assert!(error.contains("api_server: "), "{error}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_named() {
        let missing = KubernetesConfig {
            kubeconfig: Some("/nonexistent/config".into()),
            ..KubernetesConfig::default()
        };
        let error = Access::new(&missing).await.unwrap_err().to_string();
        assert!(error.contains("kubeconfig /nonexistent/config"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n";
        std::fs::write(&path, text).unwrap();
        let mut config = KubernetesConfig {
            kubeconfig: Some(path.display().to_string()),
            ..KubernetesConfig::default()
        };
        let access = Access::new(&config).await.unwrap();
        assert_eq!(access.home, "kubernetes http://127.0.0.1:1");
        config.context = Some("b".into());
        let error = Access::new(&config).await.unwrap_err().to_string();
        assert!(error.contains("config: ") && error.contains('b'), "{error}");
        config.context = None;
        config.api_server = Some("http://127.0.0.2:1".into());
        let access = Access::new(&config).await.unwrap();
        assert_eq!(access.home, "kubernetes http://127.0.0.2:1");
    }
}
