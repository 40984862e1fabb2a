//! The whole path on a real Kubernetes node: the shipped image by the shipped manifests, run by kubelet and containerd, which
//! write, rotate and remove the logs. What is counted is what OpenSearch or CloudWatch Logs holds, or, where that would take
//! too long, a file.

mod kit;
mod on_a_real_node;
