//! Cases that are tried in every version of an API.

use std::panic::{AssertUnwindSafe, catch_unwind};

use alluvium_protocol::api;
use alluvium_protocol::messages::{KafkaRequest, KafkaResponse};
use kafka_protocol::protocol::Request;

use crate::world::World;

type Run = Box<dyn Fn(&mut World, i16)>;

/// One request and what is expected of the answer, in a range of versions.
pub(crate) struct Case {
    key: i16,
    name: &'static str,
    since: i16,
    until: i16,
    run: Run,
}

/// A case in all versions that kafka-protocol has. `build` may prepare the server first.
pub(crate) fn case<R: Request + 'static>(
    name: &'static str,
    build: impl Fn(&mut World, i16) -> R + 'static,
    check: impl Fn(&mut World, i16, &R, R::Response) + 'static,
) -> Case {
    let run = move |world: &mut World, version| {
        let request = build(world, version);
        let answer = world.client.ask(version, &request);
        check(world, version, &request, answer);
    };
    let versions = R::VERSIONS;
    Case {
        key: R::KEY,
        name,
        since: versions.min,
        until: versions.max,
        run: Box::new(run),
    }
}

/// A case in the server's own codec, for a version that kafka-protocol lacks.
pub(crate) fn newest<R: KafkaRequest + 'static, A: KafkaResponse + 'static>(
    name: &'static str,
    since: i16,
    build: impl Fn(&mut World) -> R + 'static,
    check: impl Fn(&mut World, A) + 'static,
) -> Case {
    let run = move |world: &mut World, version| {
        let request = build(world);
        let answer = world.client.ask_own(version, &request);
        check(world, answer);
    };
    Case {
        key: R::API_KEY.value(),
        name,
        since,
        until: i16::MAX,
        run: Box::new(run),
    }
}

impl Case {
    pub(crate) fn since(mut self, version: i16) -> Self {
        self.since = version;
        self
    }

    pub(crate) fn until(mut self, version: i16) -> Self {
        self.until = version;
        self
    }

    fn covers(&self, key: i16, version: i16) -> bool {
        self.key == key && (self.since..=self.until).contains(&version)
    }
}

/// Tries every case in every version that is served. All failures are told, and versions that no
/// case covers.
pub(crate) fn run(cases: &[Case], keys: &[i16]) {
    let mut world = World::new();
    let mut failures = Vec::new();
    for key in keys {
        let served = api::served(*key).unwrap();
        for version in served.min..=served.max {
            let covering: Vec<&Case> = cases
                .iter()
                .filter(|case| case.covers(*key, version))
                .collect();
            if covering.is_empty() {
                failures.push(format!("{} version {version}: no case", served.name));
            }
            for case in covering {
                let tried = AssertUnwindSafe(|| (case.run)(&mut world, version));
                if let Err(panic) = catch_unwind(tried) {
                    let text = panic
                        .downcast_ref::<String>()
                        .cloned()
                        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                    failures.push(format!(
                        "{} version {version}, {}: {}",
                        served.name,
                        case.name,
                        text.unwrap_or_default()
                    ));
                    world.reconnect();
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
