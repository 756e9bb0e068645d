"""The report card: what real clients can do with a server.

usage: report.py ADDRESS [--only CLIENT] [--write FILE] [--at-once N]

Runs the programs under report/, each a client, and prints a table: client by feature, `pass`, `fail` or `–`
(the client lacks it). Ends with 1 when anything failed. `--write` puts the table into FILE between the lines
`<!-- report card: begin -->` and `<!-- report card: end -->`. What the programs need, tests/provision has
installed under target/test-env.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENV = HERE.parent.parent / "target" / "test-env"
PYTHON = ENV / "venv" / "bin" / "python"
GO = ENV / "report-go"
LIMIT = 240

BEGIN, END = "<!-- report card: begin -->", "<!-- report card: end -->"


def java(classes, classpath):
    path = ENV / classpath
    if path.exists():
        return ["java", "-Xmx200m", "-XX:+UseSerialGC", "-cp", f"{ENV / classes}:{path.read_text().strip()}", "Report"]
    return None


def there(path, *command):
    return [*map(str, command)] if Path(path).exists() else None


def versions():
    """Of the clients, as they are asked for."""
    found = {}
    for line in (HERE / "requirements.txt").read_text().split():
        name, _, version = line.partition("==")
        found[name] = version
    for line in (HERE / "report/go/go.mod").read_text().splitlines():
        parts = line.removeprefix("require").split()
        if len(parts) >= 2 and parts[0].startswith("github.com/"):
            found[parts[0]] = parts[1]
    package = json.loads((HERE / "report/kafkajs/package.json").read_text())
    found["kafkajs"] = package["dependencies"]["kafkajs"]
    return found


VERSIONS = versions()
CLIENTS = {
    "kafka-clients (Java) 4.3.1": java("report-java", "kafka-tools.classpath"),
    "kafka-clients (Java) 2.8.2": java("report-java-old", "old-clients.classpath"),
    f"confluent-kafka {VERSIONS['confluent-kafka']}": there(PYTHON, PYTHON, HERE / "report/confluent.py"),
    f"kafka-python {VERSIONS['kafka-python']}": there(PYTHON, PYTHON, HERE / "report/kafkapython.py"),
    f"aiokafka {VERSIONS['aiokafka']}": there(PYTHON, PYTHON, HERE / "report/aio.py"),
    f"franz-go {VERSIONS['github.com/twmb/franz-go']}": there(GO / "franz", GO / "franz"),
    f"sarama {VERSIONS['github.com/IBM/sarama']}": there(GO / "sarama", GO / "sarama"),
    f"kafka-go {VERSIONS['github.com/segmentio/kafka-go']}": there(GO / "kafkago", GO / "kafkago"),
    f"kafkajs {VERSIONS['kafkajs']}": there(ENV / "report-kafkajs/node_modules", "node", ENV / "report-kafkajs/main.js"),
}


def ask(client, address):
    command = CLIENTS[client]
    if command is None:
        return client, {}, "not installed"
    log = ENV / "report-logs" / f"{client.split()[0]}-{client.split()[-1]}.log"
    log.parent.mkdir(exist_ok=True)
    with open(log, "w") as stderr:
        try:
            done = subprocess.run(
                [*command, address], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, timeout=LIMIT
            )
            output, error = done.stdout, None if done.returncode == 0 else f"ended with {done.returncode}"
        except subprocess.TimeoutExpired as late:
            output, error = late.stdout or b"", f"not done within {LIMIT} s"
    told = {}
    for line in output.decode().splitlines():
        feature, verdict, why = (line.split("\t") + ["", ""])[:3]
        told[feature] = (verdict, why)
    return client, told, error


def table(reports):
    features = list(dict.fromkeys(feature for told in reports.values() for feature in told))
    marks = {"pass": "pass", "fail": "**fail**", "-": "–"}
    rows = ["| | " + " | ".join(reports) + " |", "| --- |" + " :---: |" * len(reports)]
    for feature in features:
        cells = [marks[told.get(feature, ("fail", ""))[0]] for told in reports.values()]
        rows.append(f"| {feature} | " + " | ".join(cells) + " |")
    reasons = {}
    for client, told in reports.items():
        for feature, (verdict, why) in told.items():
            if verdict != "pass":
                reasons.setdefault(why, {}).setdefault(client, []).append(feature)
    rows += ["", "What is not tried, and why:", ""]
    for client in reports:
        parts = [f"{', '.join(of[client])}: {why}" for why, of in reasons.items() if client in of]
        if parts:
            rows.append(f"- {client}: {'; '.join(parts)}.")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--only")
    parser.add_argument("--write")
    parser.add_argument("--at-once", type=int, default=2)
    asked = parser.parse_args()
    chosen = [client for client in CLIENTS if not asked.only or client.startswith(asked.only)]
    with ThreadPoolExecutor(asked.at_once) as pool:
        answers = list(pool.map(lambda client: ask(client, asked.address), chosen))
    reports, failed = {}, []
    for client, told, error in answers:
        reports[client] = told
        if error:
            failed.append(f"{client}: {error}")
        failed += [f"{client}: {of}: {why}" for of, (verdict, why) in told.items() if verdict == "fail"]
    text = table(reports)
    print(text)
    if asked.write:
        page = Path(asked.write)
        before, _, rest = page.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    for line in failed:
        print(f"FAILED {line}")
    sys.exit(1 if failed else 0)


main()
