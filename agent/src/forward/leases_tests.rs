//! What of leases can be seen without an API server: the rest is in `tests/tests/forward/moto/leases.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn refused(what: usize) -> Result<(), Failure> {
    Err(Failure::NotUnderstood(what.to_string()))
}

#[tokio::test]
async fn a_call_that_fails_or_is_not_answered_keeps_no_other_from_being_made() {
    let made = AtomicUsize::new(0);
    let call = |number: usize| {
        let made = &made;
        async move {
            if number == 3 {
                // Until all the others are through.
                while made.load(Ordering::Relaxed) < 99 {
                    tokio::task::yield_now().await;
                }
            }
            made.fetch_add(1, Ordering::Relaxed);
            if number == 3 || number == 70 { refused(number) } else { Ok(()) }
        }
    };
    let done = several((0..100).map(call).collect()).await;
    assert_eq!(made.load(Ordering::Relaxed), 100);
    assert!(matches!(&done, Err(Failure::NotUnderstood(what)) if what == "3"), "{done:?}");
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_so_many() {
    let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let call = |_: usize| {
        let (under_way, most) = (&under_way, &most);
        async move {
            most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            under_way.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        }
    };
    several((0..100).map(call).collect()).await.expect("none fails");
    assert_eq!(most.load(Ordering::Relaxed), AT_ONCE);
}

#[tokio::test]
async fn a_source_that_asks_no_api_server_is_told_of_as_such() {
    let metadata = MetadataConfig { source: MetadataSource::Path, ..MetadataConfig::default() };
    let opened = Leases::open(&LeasesConfig::default(), &metadata, "s").await;
    let error = opened.expect_err("no API server is to be asked");
    assert!(error.contains("`metadata.source`") && !error.contains("KUBECONFIG"), "{error}");
}
