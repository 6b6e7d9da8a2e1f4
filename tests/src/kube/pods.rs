//! Pods that answer, and asking them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Cluster, NAMESPACE, PATIENCE, name, text};
use crate::wait::eventually;

/// Image of the pods; another one for a cluster that has its own.
fn image() -> String {
    std::env::var("ROADBED_TEST_IMAGE").unwrap_or_else(|_| "localhost/agnhost:2.66.1".to_owned())
}

/// Pods of one Deployment, each of which answers its name on port 8080. They are deleted on drop.
#[derive(Debug)]
pub struct Pods<'a> {
    cluster: &'a Cluster,
    name: String,
}

/// One pod.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<String>,
}

impl<'a> Pods<'a> {
    /// Starts them and waits until all answer their probes; `node` is where they go, or anywhere.
    ///
    /// # Panics
    /// When they do not start.
    #[must_use]
    pub fn start(cluster: &'a Cluster, name: &str, replicas: usize, node: Option<&str>) -> Self {
        namespace(cluster).expect("the namespace of the tests");
        let manifest = deployment(name, replicas, node);
        cluster.apply(&manifest.to_string()).expect("pods");
        let pods = Self {
            cluster,
            name: name.to_owned(),
        };
        pods.await_all(replicas);
        pods
    }

    /// Another number of them.
    ///
    /// # Panics
    /// When it is not reached.
    pub fn scale(&self, replicas: usize) {
        let count = format!("--replicas={replicas}");
        let deployment = format!("deployment/{}", self.name);
        self.cluster
            .kubectl(&["scale", "-n", NAMESPACE, &deployment, &count])
            .expect("scale");
        self.await_all(replicas);
    }

    fn await_all(&self, replicas: usize) {
        let patience = PATIENCE + std::time::Duration::from_secs(3) * replicas as u32;
        eventually(patience, "all pods run, and no other", || {
            let pods = self.list()?;
            ensure!(pods.len() == replicas, "{} of {replicas} pods", pods.len());
            let deployment = self
                .cluster
                .get(&["deployment", "-n", NAMESPACE, &self.name])?;
            let ready = deployment["status"]["readyReplicas"].as_u64().unwrap_or(0);
            ensure!(ready == replicas as u64, "{ready} of {replicas} ready");
            Ok(())
        });
    }

    /// The pods, in the order of their names.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn list(&self) -> Result<Vec<Server>> {
        let selector = format!("app={}", self.name);
        let pods = self
            .cluster
            .items(&["pods", "-n", NAMESPACE, "-l", &selector])?;
        let server = |pod: &Value| Server {
            name: name(pod),
            node: text(&pod["spec"]["nodeName"]),
            addresses: pod["status"]["podIPs"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|ip| text(&ip["ip"]))
                .collect(),
        };
        let mut servers: Vec<Server> = pods.iter().map(server).collect();
        servers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(servers)
    }
}

impl Drop for Pods<'_> {
    fn drop(&mut self) {
        // A cluster that is gone has no pods.
        let deployment = format!("deployment/{}", self.name);
        let _ = self.cluster.kubectl(&[
            "delete",
            "-n",
            NAMESPACE,
            &deployment,
            "--wait=true",
            "--cascade=foreground",
        ]);
    }
}

impl Server {
    /// Its URL at one of its addresses.
    #[must_use]
    pub fn url(address: &str) -> String {
        match address.contains(':') {
            true => format!("http://[{address}]:8080/hostname"),
            false => format!("http://{address}:8080/hostname"),
        }
    }

    /// Asks a URL from inside of this pod.
    ///
    /// # Errors
    /// When no answer comes within 3 s.
    pub fn ask(&self, cluster: &Cluster, url: &str) -> Result<String> {
        cluster.kubectl(&[
            "exec",
            "-n",
            NAMESPACE,
            &self.name,
            "--",
            "curl",
            "-sSf",
            "--max-time",
            "3",
            url,
        ])
    }
}

/// The namespace, under the strictest Pod Security level.
fn namespace(cluster: &Cluster) -> Result<()> {
    let manifest = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    cluster.apply(&manifest.to_string()).map(drop)
}

fn deployment(name: &str, replicas: usize, node: Option<&str>) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": node.map(|node| json!({"kubernetes.io/hostname": node})),
                    // Spread, so that every node has one.
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": labels},
                    }],
                    "terminationGracePeriodSeconds": 0,
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "server", "image": image(), "imagePullPolicy": "IfNotPresent",
                        "args": ["netexec", "--http-port=8080"],
                        "ports": [{"containerPort": 8080}],
                        "readinessProbe": {"httpGet": {"path": "/hostname", "port": 8080}, "periodSeconds": 2, "timeoutSeconds": 2},
                        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                    }],
                },
            },
        },
    })
}
