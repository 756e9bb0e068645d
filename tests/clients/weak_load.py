"""An acks=1 load that survives the death of the server.

usage: weak_load.py ADDRESS TOPIC PRODUCER PARTITIONS

Sends numbered records until SIGTERM, then flushes. Prints, a line each:
  ack PARTITION OFFSET VALUE     the server acknowledged it
  failed VALUE ERROR             the client gave up
"""

import signal
import sys
import time

from confluent_kafka import Producer

address, topic, name, partitions = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
producer = Producer(
    {
        "bootstrap.servers": address,
        "acks": 1,
        "linger.ms": 5,
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
        else:
            print(f"failed {value} {error}", flush=True)

    return delivered


number = 0
while running:
    value = f"{name}-{number:08}"
    producer.produce(
        topic, value=value, partition=number % partitions, on_delivery=report(value)
    )
    number += 1
    producer.poll(0)
    if number % 10 == 0:
        time.sleep(0.01)
producer.flush(120)
