//! The built agent against CloudWatch Logs: a real server (moto) behind a checker that refuses what AWS refuses.

/// All that needs moto, under one name by which it can be left out.
mod moto {
    mod connect;
    mod delivery;
    mod faults;
    mod insights;
    mod kit;
    mod rejected;
    mod setup;
    mod subscription;
}
