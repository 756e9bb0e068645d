//! Nodes die, hang and are cut off under load.

use std::time::{Duration, Instant};

use crate::beside::Beside;
use crate::load::Load;
use crate::nodes::{Cluster, Role};
use crate::support::{client, python, run_client};

/// Longest silence when the metadata leader is lost,
const LEADER: Duration = Duration::from_secs(5);
/// and when an agent is.
const AGENT: Duration = Duration::from_secs(3);

fn nap(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

#[test]
fn a_leader_and_an_agent_die_and_nothing_is_lost() {
    let mut cluster = Cluster::over_a_folder(3);
    cluster.wait_healthy();
    let load = Load::start(&cluster, "deaths", 24);
    nap(4);
    let leader = cluster.leader();
    let leader_died = Instant::now();
    cluster.nodes[leader].kill_9();
    nap(6);
    assert_ne!(cluster.leader(), leader);
    cluster.nodes[leader].start();
    nap(2);
    let agent = 3;
    assert_eq!(cluster.nodes[agent].role, Role::Agent);
    let agent_died = Instant::now();
    cluster.nodes[agent].kill_9();
    nap(6);
    cluster.nodes[agent].start();
    let verdict = load.finish();
    let silence = verdict.silence(leader_died, "the metadata leader died");
    assert!(silence < LEADER, "{silence:?}\n{}", verdict.text);
    let silence = verdict.silence(agent_died, "an agent died");
    assert!(silence < AGENT, "{silence:?}\n{}", verdict.text);
    cluster.wait_healthy();
}

#[test]
fn nodes_that_hang_or_are_cut_off_come_back() {
    let mut cluster = Cluster::over_a_folder(3);
    if !cluster.network.can_cut() {
        return;
    }
    cluster.wait_healthy();
    let load = Load::start(&cluster, "hangs", 46);
    let mut faults = Vec::new();
    for which in [
        "leader hangs",
        "agent hangs",
        "leader cut off",
        "agent cut off",
    ] {
        nap(3);
        let node = if which.starts_with("leader") {
            cluster.leader()
        } else {
            4
        };
        faults.push((Instant::now(), which));
        let node = &mut cluster.nodes[node];
        if which.ends_with("hangs") {
            node.stop();
            nap(5);
            node.go_on();
        } else {
            node.cut();
            nap(5);
            node.host.heal();
        }
    }
    let verdict = load.finish();
    for (fault, what) in faults {
        let silence = verdict.silence(fault, what);
        assert!(silence < LEADER, "{what}: {silence:?}\n{}", verdict.text);
    }
    cluster.wait_healthy();
}

#[test]
fn a_group_goes_on_when_its_coordinator_dies() {
    let Some(python) = python() else { return };
    let mut cluster = Cluster::over_a_folder(3);
    cluster.wait_healthy();
    cluster.tool(&["topic", "create", "jobs", "--partitions", "4"]);
    let (survivors, group) = (cluster.bootstrap(), "workers");
    let seen = run_client(
        &python,
        "failover_group.py",
        &[&survivors, "jobs", group, "coordinator"],
    );
    let coordinator = seen.trim();
    let place = cluster
        .nodes
        .iter()
        .position(|node| node.role == Role::Agent && node.kafka == coordinator);
    let place = place.unwrap_or_else(|| panic!("no agent at {coordinator}"));
    let member = client(
        &python,
        "failover_group.py",
        &[&survivors, "jobs", group, "work", "20"],
    )
    .stdout(std::process::Stdio::piped())
    .spawn()
    .unwrap();
    nap(8);
    cluster.nodes[place].kill_9();
    let output = member.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    // Sessions last ten seconds: the member never lost its partitions, committed before and after,
    // and every record was handed out once.
    assert!(text.contains("assigned once"), "{text}");
    assert!(text.contains("no record twice, none missing"), "{text}");
    let after = run_client(
        &python,
        "failover_group.py",
        &[&survivors, "jobs", group, "coordinator"],
    );
    assert_ne!(after.trim(), coordinator);
}

/// A random schedule over all six processes. `ALLUVIUM_FAULT_SECONDS` makes it longer,
/// `ALLUVIUM_FAULT_SEED` repeats one.
#[test]
fn random_faults_leave_no_trace() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seconds = number("ALLUVIUM_FAULT_SECONDS").unwrap_or(45);
    let seed = number("ALLUVIUM_FAULT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("seed {seed}, {seconds} s");
    let Some(mut cluster) = Cluster::over_minio(3) else {
        return;
    };
    if !cluster.network.can_cut() {
        return;
    }
    cluster.wait_healthy();
    let beside = Beside::start(&cluster);
    let load = Load::start(&cluster, "random", seconds);
    let end = Instant::now() + Duration::from_secs(seconds.saturating_sub(10));
    let mut draw = seed;
    let mut next = |most: u64| {
        draw = draw
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (draw >> 33) % most
    };
    let mut faults = Vec::new();
    nap(3);
    while Instant::now() < end {
        // First the two deaths that are measured; then every third fault is the leader's.
        let place = match faults.len() {
            0 => cluster.leader(),
            1 => 3 + usize::try_from(next(3)).unwrap(),
            _ if next(3) == 0 => cluster.leader(),
            _ => usize::try_from(next(6)).unwrap(),
        };
        let leads = cluster.nodes[place].role != Role::Agent && cluster.leader() == place;
        let kind = if faults.len() < 2 { 0 } else { next(3) };
        let node = &mut cluster.nodes[place];
        let what = match node.role {
            Role::Agent => "an agent",
            Role::Metadata(_) if leads => "the leader",
            Role::Metadata(_) => "a follower",
        };
        let began = Instant::now();
        let done = match kind {
            0 => {
                node.kill_9();
                nap(1 + next(4));
                node.start();
                "killed"
            }
            1 => {
                node.stop();
                nap(1 + next(6));
                node.go_on();
                "stopped"
            }
            _ => {
                node.cut();
                nap(1 + next(6));
                node.host.heal();
                "cut off"
            }
        };
        faults.push((began, format!("{what} ({}) {done}", node.name)));
        nap(4);
    }
    let verdict = load.finish();
    if let Some(beside) = beside {
        beside.finish();
    }
    let mut worst = [
        ("the leader", Duration::ZERO, LEADER),
        ("an agent", Duration::ZERO, AGENT),
    ];
    for (place, (fault, what)) in faults.iter().enumerate() {
        let next = faults.get(place + 1).map(|(next, _)| *next);
        let end = next.unwrap_or(*fault + Duration::from_secs(7));
        let silence = verdict.silence_until(*fault, end, what);
        for (who, longest, _) in &mut worst {
            if what.starts_with(*who) && what.ends_with("killed") {
                *longest = silence.max(*longest);
            }
        }
    }
    eprintln!("{} faults; {}", faults.len(), verdict.text);
    for (who, longest, most) in worst {
        eprintln!(
            "longest silence when {who} died: {} ms",
            longest.as_millis()
        );
        assert!(longest < most, "{who}: {longest:?}");
    }
    cluster.wait_healthy();
}
