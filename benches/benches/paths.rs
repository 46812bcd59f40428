//! Times of the hot paths: `cargo bench -p benches`.

use std::time::Duration;

use benches::paths;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn hot_paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("paths");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for name in paths::names() {
        let Some(mut path) = paths::path(name) else { continue };
        group.throughput(Throughput::Elements(path.units));
        group.bench_function(name, |bencher| bencher.iter(|| (path.call)()));
    }
    group.finish();
}

criterion_group!(all, hot_paths);
criterion_main!(all);
