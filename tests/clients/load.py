"""An idempotent acks=all load that survives the death of the server.

usage: load.py ADDRESS TOPIC PRODUCER PARTITIONS [PAUSE]

Sends numbered records of all sizes up to 1.5 KB (padded with "~") until SIGTERM, then flushes. PAUSE is
in seconds, after every tenth record: 0.01, a firehose, unless given.
Prints, a line each, without the padding:
  ack PARTITION OFFSET VALUE     the server acknowledged it
  refused VALUE                  the server refused it (oversized ones, mixed in on purpose)
  failed VALUE ERROR             the client gave up
"""

import signal
import sys
import time

from confluent_kafka import KafkaError, Producer

address, topic, name, partitions = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
pause = float(sys.argv[5]) if len(sys.argv) > 5 else 0.01
producer = Producer(
    {
        "bootstrap.servers": address,
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "message.max.bytes": 4_000_000,
        "message.timeout.ms": 120_000,
        "reconnect.backoff.max.ms": 300,
        "retry.backoff.ms": 50,
        "socket.timeout.ms": 10_000,
    }
)
running = True


def stop(_signal, _frame):
    global running
    running = False


signal.signal(signal.SIGTERM, stop)


def report(value):
    def delivered(error, message):
        if error is None:
            print(f"ack {message.partition()} {message.offset()} {value}", flush=True)
        elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            print(f"refused {value}", flush=True)
        else:
            print(f"failed {value} {error}", flush=True)

    return delivered


# Oversized records go through a producer of their own, with no idempotence: an idempotent producer
# would rightly stop at the gap that a refusal leaves in its sequence.
unruly = Producer(
    {
        "bootstrap.servers": address,
        "message.max.bytes": 4_000_000,
        "message.timeout.ms": 120_000,
        "reconnect.backoff.max.ms": 300,
    }
)
number = 0
while running:
    value = f"{name}-{number:08}"
    padding = "~" * (number * 37 % 1500)
    producer.produce(
        topic, value=value + padding, partition=number % partitions, on_delivery=report(value)
    )
    if number % 500 == 250:
        refused = f"{name}-refused-{number:08}-" + "x" * 2_000_000
        unruly.produce(
            topic,
            value=refused,
            partition=number % partitions,
            on_delivery=report(refused[: len(name) + 17]),
        )
    number += 1
    producer.poll(0)
    unruly.poll(0)
    if number % 10 == 0:
        time.sleep(pause)
producer.flush(120)
unruly.flush(120)
