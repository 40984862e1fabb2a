//! The forwarder: from CloudWatch Logs' subscription (moto, behind a checker that refuses what AWS refuses) to a real
//! OpenSearch, as a process that reads Kinesis, as several that share it by a real Kubernetes API server, and as a Lambda
//! function.

/// All that needs moto, under one name by which it can be left out.
mod moto {
    mod kinesis;
    mod kit;
    mod lambda;
    mod leases;
    mod replay;
}
