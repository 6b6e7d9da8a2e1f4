//! Who reaches whom, through what.

use anyhow::{Context, Result, ensure};
use roadbed_tests::kube::{Cluster, NAMESPACE, PATIENCE, Pods, Server, text};
use roadbed_tests::wait::eventually;
use serde_json::json;

/// Each pod from each pod; on the bed, from each node as well.
pub(crate) fn every_pair(cluster: &Cluster, pods: &[Server]) {
    let nodes = if cluster.is_bed() {
        cluster.nodes().unwrap()
    } else {
        Vec::new()
    };
    let mut count = 0;
    for to in pods {
        for address in &to.addresses {
            let url = Server::url(address);
            for from in pods {
                eventually(PATIENCE, &format!("{} reaches {url}", from.name), || {
                    let answer = from.ask(cluster, &url)?;
                    ensure!(answer == to.name, "{answer}");
                    Ok(())
                });
                count += 1;
            }
            for node in &nodes {
                eventually(PATIENCE, &format!("{node} reaches {url}"), || {
                    let answer = cluster.on(node, &format!("curl -sSf --max-time 3 {url}"))?;
                    ensure!(answer == to.name, "{answer}");
                    Ok(())
                });
                count += 1;
            }
        }
    }
    println!("{count} pairs of pods and nodes reach each other");
}

#[test]
fn pods_nodes_and_services_reach_each_other() {
    let cluster = Cluster::attach();
    let pods = Pods::start(&cluster, "web", 3, None);
    let servers = pods.list().unwrap();
    every_pair(&cluster, &servers);
    services(&cluster, &servers).unwrap();
}

/// A Service of both families by its addresses, its name and its node port.
fn services(cluster: &Cluster, servers: &[Server]) -> Result<()> {
    let families = servers.first().context("pods")?.addresses.len();
    let policy = if families > 1 {
        "RequireDualStack"
    } else {
        "SingleStack"
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {
            "type": "NodePort", "ipFamilyPolicy": policy, "selector": {"app": "web"},
            "ports": [{"port": 8080, "targetPort": 8080}],
        },
    });
    cluster.apply(&service.to_string())?;
    let service = cluster.get(&["service", "-n", NAMESPACE, "web"])?;
    let names: Vec<&str> = servers.iter().map(|s| s.name.as_str()).collect();
    let mut urls: Vec<String> = service["spec"]["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|ip| Server::url(&text(ip)))
        .collect();
    ensure!(urls.len() == families, "{urls:?}");
    urls.push(format!(
        "http://web.{NAMESPACE}.svc.cluster.local:8080/hostname"
    ));
    urls.push("http://web:8080/hostname".to_owned());
    for from in servers {
        for url in &urls {
            eventually(PATIENCE, &format!("{} reaches {url}", from.name), || {
                let answer = from.ask(cluster, url)?;
                ensure!(names.contains(&answer.as_str()), "{answer}");
                Ok(())
            });
        }
    }
    let port = &service["spec"]["ports"][0]["nodePort"];
    let mut count = 0;
    for node in cluster.nodes()? {
        for address in cluster.node_addresses(&node)? {
            let host = if address.contains(':') {
                format!("[{address}]")
            } else {
                address
            };
            let url = format!("http://{host}:{port}/hostname");
            for from in servers {
                eventually(PATIENCE, &format!("{} reaches {url}", from.name), || {
                    let answer = from.ask(cluster, &url)?;
                    ensure!(names.contains(&answer.as_str()), "{answer}");
                    Ok(())
                });
                count += 1;
            }
        }
    }
    println!("Service: {urls:?} and {count} node ports answer");
    cluster.kubectl(&["delete", "service", "-n", NAMESPACE, "web"])?;
    Ok(())
}
