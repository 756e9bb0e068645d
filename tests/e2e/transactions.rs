//! Transactions through a real client: all of one or nothing of it, also where a program dies within.

use serde_json::{Value, json};

use crate::support::{Server, kafka_tool, kafka_tools, python, run_client};

#[test]
fn readers_see_whole_transactions_and_a_program_that_dies_moves_every_record_once() {
    let Some(python) = python() else { return };
    let (_dir, server) = Server::fresh();
    let report = run_client(&python, "transactions.py", &[&server.address()]);
    let report: Value = serde_json::from_str(&report).unwrap();

    let both = &report["both"];
    let of = |transactions: &[u32]| -> Vec<String> {
        let values = transactions
            .iter()
            .map(|number| (0..4).map(move |part| format!("{number}-{part}")));
        values.flatten().collect()
    };
    assert_eq!(both["hidden"], true, "an open transaction is not read");
    assert_eq!(both["committed"], json!(of(&[0, 2])));
    assert_eq!(both["uncommitted"], json!(of(&[0, 1, 2])));

    let fenced = &report["fenced"];
    let code = fenced["code"].as_str().unwrap_or_default();
    assert!(
        ["_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH"].contains(&code),
        "{fenced}"
    );
    assert_eq!(fenced["committed"], json!(["new-0", "new-1"]));

    let slow = &report["timed_out"];
    assert_eq!(
        slow["before"],
        json!([]),
        "nothing is read past an open transaction"
    );
    assert_eq!(slow["after"], json!(["other-0", "other-1"]));
    assert_eq!(slow["refused"], true);

    let moved: Vec<String> = (0..100).map(|number| format!("r{number:03}!")).collect();
    assert_eq!(report["moved"], json!(moved));

    let Some(class_path) = kafka_tools() else {
        return;
    };
    let address = server.address();
    let tool = |arguments: &[&str]| {
        let mut all = vec!["--bootstrap-server", &address];
        all.extend(arguments);
        kafka_tool(
            &class_path,
            "org.apache.kafka.tools.TransactionsCommand",
            &all,
        )
    };
    let listed = tool(&["list"]);
    assert!(
        listed.contains("mover") && listed.contains("CompleteCommit"),
        "{listed}"
    );
    let described = tool(&["describe", "--transactional-id", "slow"]);
    assert!(described.contains("CompleteAbort"), "{described}");
}
