//! What endpoints used.

use std::sync::Arc;

use super::{absent, id, name, two_workspaces};
use crate::{Catalog, UsageRecord};

pub async fn usage_adds_up_and_is_never_counted_twice(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let used = |workspace, endpoint, hour, requests| UsageRecord {
        workspace,
        endpoint: name(endpoint),
        hour,
        requests,
        errors: 1,
        texts: 2 * requests,
        core_micros: 50 * requests,
        memory_byte_seconds: 1 << 40,
    };
    let batch = vec![used(first, "live", 25, 10), used(first, "other", 25, 1)];
    catalog.add_usage("1".to_owned(), batch.clone()).await.unwrap();
    // The answer was lost, and it is asked again.
    catalog.add_usage("1".to_owned(), batch).await.unwrap();
    let batch = vec![used(first, "live", 25, 5), used(first, "live", 26, 7)];
    catalog.add_usage("2".to_owned(), batch).await.unwrap();
    catalog.add_usage("3".to_owned(), vec![used(second, "live", 49, 3)]).await.unwrap();

    let by_hour = catalog.usage(first, None, 0..100, 1).await.unwrap();
    let seen: Vec<_> =
        by_hour.iter().map(|sum| (sum.hour, sum.endpoint.as_str(), sum.requests)).collect();
    assert_eq!(seen, [(25, "live", 15), (25, "other", 1), (26, "live", 7)]);
    assert_eq!((by_hour[0].errors, by_hour[0].texts, by_hour[0].core_micros), (2, 30, 750));
    assert_eq!(by_hour[0].memory_byte_seconds, 2 << 40);
    let by_day = catalog.usage(first, Some(name("live")), 0..100, 24).await.unwrap();
    let [day] = by_day.as_slice() else { panic!("{by_day:?}") };
    assert_eq!((day.hour, day.requests), (24, 22));
    assert_eq!(catalog.usage(first, None, 26..27, 1).await.unwrap().len(), 1);
    assert_eq!(catalog.usage(second, None, 0..100, 1).await.unwrap()[0].requests, 3);

    // All or nothing.
    let batch = vec![used(first, "live", 25, 5), used(id(77), "live", 25, 5)];
    absent(catalog.add_usage("4".to_owned(), batch).await);
    assert_eq!(catalog.usage(first, None, 25..26, 1).await.unwrap()[0].requests, 15);
    assert_eq!(catalog.forget_usage(26, 1).await.unwrap(), 1);
    assert_eq!(catalog.forget_usage(26, 10).await.unwrap(), 1);
    assert_eq!(catalog.usage(first, None, 0..100, 1).await.unwrap().len(), 1);
}
