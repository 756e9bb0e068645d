// The report of sarama.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"github.com/IBM/sarama"

	. "report"
)

var admin sarama.ClusterAdmin

func config(change func(*sarama.Config)) *sarama.Config {
	it := sarama.NewConfig()
	it.Version = sarama.V4_0_0_0
	it.Producer.Return.Successes = true
	it.Producer.Partitioner = sarama.NewManualPartitioner
	it.Consumer.Offsets.Initial = sarama.OffsetOldest
	it.Consumer.Offsets.AutoCommit.Enable = false
	it.Consumer.Group.Session.Timeout = 6 * time.Second
	it.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	it.Consumer.Group.Rebalance.Retry.Backoff = 200 * time.Millisecond
	if change != nil {
		change(it)
	}
	return it
}

func topic(what string, partitions int32) string {
	made := Name(what)
	Check(admin.CreateTopic(made, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
	return made
}

func messages(topic string, partition int32, values []string) []*sarama.ProducerMessage {
	all := make([]*sarama.ProducerMessage, len(values))
	for place, value := range values {
		all[place] = &sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.StringEncoder(value)}
	}
	return all
}

func send(topic string, partition int32, values []string, change func(*sarama.Config)) {
	producer := Must(sarama.NewSyncProducer([]string{Address()}, config(change)))
	defer producer.Close()
	Check(producer.SendMessages(messages(topic, partition, values)))
}

func read(topic string, partition int32, count int, change func(*sarama.Config)) []*sarama.ConsumerMessage {
	consumer := Must(sarama.NewConsumer([]string{Address()}, config(change)))
	defer consumer.Close()
	from := Must(consumer.ConsumePartition(topic, partition, sarama.OffsetOldest))
	defer from.Close()
	var found []*sarama.ConsumerMessage
	end := time.After(30 * time.Second)
	for len(found) < count {
		select {
		case message := <-from.Messages():
			found = append(found, message)
		case <-end:
			panic(fmt.Sprint("found ", len(found), " records of ", count))
		}
	}
	return found
}

func texts(found []*sarama.ConsumerMessage) []string {
	all := make([]string, len(found))
	for place, message := range found {
		all[place] = string(message.Value)
	}
	return all
}

type member struct {
	group  sarama.ConsumerGroup
	cancel context.CancelFunc
	over   sync.WaitGroup
	lock   sync.Mutex
	owned  int
	found  []string
}

func (it *member) Setup(session sarama.ConsumerGroupSession) error {
	it.lock.Lock()
	defer it.lock.Unlock()
	it.owned = 0
	for _, partitions := range session.Claims() {
		it.owned += len(partitions)
	}
	return nil
}

func (it *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (it *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		it.lock.Lock()
		it.found = append(it.found, string(message.Value))
		it.lock.Unlock()
		session.MarkMessage(message, "")
		session.Commit()
	}
	return nil
}

func join(topic, id string, change func(*sarama.Config)) *member {
	it := &member{group: Must(sarama.NewConsumerGroup([]string{Address()}, id, config(change)))}
	running, cancel := context.WithCancel(context.Background())
	it.cancel = cancel
	it.over.Go(func() {
		for running.Err() == nil {
			if err := it.group.Consume(running, []string{topic}, it); errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
		}
	})
	return it
}

func (it *member) leave() {
	it.cancel()
	it.over.Wait()
	it.group.Close()
}

func (it *member) has() (int, int) {
	it.lock.Lock()
	defer it.lock.Unlock()
	return it.owned, len(it.found)
}

func main() {
	sarama.Logger = log.New(io.Discard, "", 0)
	address := []string{Address()}
	admin = Must(sarama.NewClusterAdmin(address, config(nil)))
	Tried("produce and consume", func() {
		where := topic("plain", 1)
		producer := Must(sarama.NewSyncProducer(address, config(nil)))
		defer producer.Close()
		at := time.UnixMilli(1234567890123)
		Must2(producer.SendMessage(&sarama.ProducerMessage{Topic: where, Key: sarama.StringEncoder("k"),
			Value: sarama.StringEncoder("v"), Timestamp: at,
			Headers: []sarama.RecordHeader{{Key: []byte("h"), Value: []byte("x")}}}))
		got := read(where, 0, 1, nil)[0]
		Same([]string{string(got.Key), string(got.Value), string(got.Headers[0].Key), string(got.Headers[0].Value)},
			[]string{"k", "v", "h", "x"})
		Same(got.Timestamp.UnixMilli(), at.UnixMilli())
	})
	Tried("compression codecs", func() {
		where := topic("codecs", 1)
		var wanted []string
		for _, codec := range []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP,
			sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD} {
			sent := Numbers(codec.String()+" compresses this text and this text ", 20)
			send(where, 0, sent, func(it *sarama.Config) { it.Producer.Compression = codec })
			wanted = append(wanted, sent...)
		}
		Same(texts(read(where, 0, len(wanted), nil)), wanted)
	})
	Tried("idempotent producer", func() {
		where := topic("idempotent", 1)
		send(where, 0, Numbers("", 500), func(it *sarama.Config) {
			it.Producer.Idempotent = true
			it.Producer.RequiredAcks = sarama.WaitForAll
			it.Net.MaxOpenRequests = 1
		})
		Same(texts(read(where, 0, 500, nil)), Numbers("", 500))
	})
	Tried("offsets by time", func() {
		where := topic("times", 1)
		all := messages(where, 0, []string{"a", "b", "c"})
		for place, message := range all {
			message.Timestamp = time.UnixMilli(1_000_000_000_000 + int64(place)*1000)
		}
		producer := Must(sarama.NewSyncProducer(address, config(nil)))
		defer producer.Close()
		for _, message := range all {
			Must2(producer.SendMessage(message))
		}
		client := Must(sarama.NewClient(address, config(nil)))
		defer client.Close()
		Same(Must(client.GetOffset(where, 0, 1_000_000_000_500)), int64(1))
		Same(Must(client.GetOffset(where, 0, sarama.OffsetNewest)), int64(3))
	})
	Tried("consumer group", func() {
		where, id := topic("group", 4), Name("group")
		first, second := join(where, id, nil), join(where, id, nil)
		Until("two members to share", func() bool {
			one, _ := first.has()
			two, _ := second.has()
			return one == 2 && two == 2
		})
		for partition := range int32(4) {
			send(where, partition, Numbers(fmt.Sprint(partition, "-"), 5), nil)
		}
		Until("all records", func() bool {
			_, one := first.has()
			_, two := second.has()
			return one+two == 20
		})
		second.leave()
		Until("one to have all", func() bool { owned, _ := first.has(); return owned == 4 })
		first.leave()
		send(where, 3, []string{"new"}, nil)
		third := join(where, id, nil)
		Until("what is new", func() bool { _, found := third.has(); return found > 0 })
		third.leave()
		Same(third.found, []string{"new"})
	})
	Unsupported("cooperative rebalancing", "the client has no cooperative assignor")
	Unsupported("consumer group, KIP-848", "the client speaks the classic protocol")
	Tried("static member", func() {
		where, id := topic("static", 1), Name("static")
		for _, value := range []string{"a", "b"} {
			send(where, 0, []string{value}, nil)
			reader := join(where, id, func(it *sarama.Config) { it.Consumer.Group.InstanceId = "one" })
			Until("a record", func() bool { _, found := reader.has(); return found > 0 })
			reader.leave()
			Same(reader.found, []string{value})
		}
	})
	Unsupported("subscription by pattern", "the client has no such call")
	Tried("transactions", func() {
		source, target, id := topic("source", 1), topic("target", 1), Name("mover")
		producer := Must(sarama.NewSyncProducer(address, config(func(it *sarama.Config) {
			it.Producer.Transaction.ID = Name("transaction")
			it.Producer.Idempotent = true
			it.Producer.RequiredAcks = sarama.WaitForAll
			it.Net.MaxOpenRequests = 1
		})))
		defer producer.Close()
		for _, value := range []string{"aborted", "committed"} {
			Check(producer.BeginTxn())
			Must2(producer.SendMessage(messages(target, 0, []string{value})[0]))
			offsets := map[string][]*sarama.PartitionOffsetMetadata{source: {{Partition: 0, Offset: 7}}}
			Check(producer.AddOffsetsToTxn(offsets, id))
			if value == "aborted" {
				Check(producer.AbortTxn())
			} else {
				Check(producer.CommitTxn())
			}
		}
		committed := func(it *sarama.Config) { it.Consumer.IsolationLevel = sarama.ReadCommitted }
		Same(texts(read(target, 0, 1, committed)), []string{"committed"})
		found := Must(admin.ListConsumerGroupOffsets(id, map[string][]int32{source: {0}}))
		Same(found.GetBlock(source, 0).Offset, int64(7))
	})
	Unsupported("share group", "the client has no share consumer")
	Tried("create, describe, delete topics", func() {
		where := topic("topics", 3)
		Same(len(Must(admin.DescribeTopics([]string{where}))[0].Partitions), 3)
		Check(admin.DeleteTopic(where))
		Until("it to be gone", func() bool { _, found := Must(admin.ListTopics())[where]; return !found })
	})
	Tried("add partitions", func() {
		where := topic("grow", 1)
		Check(admin.CreatePartitions(where, 4, nil, false))
		Until("four", func() bool { return len(Must(admin.DescribeTopics([]string{where}))[0].Partitions) == 4 })
	})
	Tried("configs", func() {
		where, value := topic("configs", 1), "5000"
		changes := map[string]sarama.IncrementalAlterConfigsEntry{
			"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}}
		Check(admin.IncrementalAlterConfig(sarama.TopicResource, where, changes, false))
		found := Must(admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: where,
			ConfigNames: []string{"retention.ms"}}))
		Same(found[0].Value, "5000")
	})
	Tried("list, describe, delete groups", func() {
		where, id := topic("administered", 1), Name("administered")
		send(where, 0, []string{"a"}, nil)
		reader := join(where, id, nil)
		Until("a record", func() bool { _, found := reader.has(); return found > 0 })
		described := Must(admin.DescribeConsumerGroups([]string{id}))[0]
		Same([]any{described.State, len(described.Members)}, []any{"Stable", 1})
		reader.leave()
		_, listed := Must(admin.ListConsumerGroups())[id]
		Same(listed, true)
		found := Must(admin.ListConsumerGroupOffsets(id, map[string][]int32{where: {0}}))
		Same(found.GetBlock(where, 0).Offset, int64(1))
		Check(admin.DeleteConsumerGroup(id))
		_, listed = Must(admin.ListConsumerGroups())[id]
		Same(listed, false)
	})
	Tried("delete records", func() {
		where := topic("records", 1)
		send(where, 0, []string{"a", "b", "c"}, nil)
		Check(admin.DeleteRecords(where, map[int32]int64{0: 2}))
		Same(texts(read(where, 0, 1, nil)), []string{"c"})
	})
	Tried("delete group offsets", func() {
		where, id := topic("forgotten", 1), Name("forgotten")
		client := Must(sarama.NewClient(address, config(nil)))
		defer client.Close()
		offsets := Must(sarama.NewOffsetManagerFromClient(id, client))
		partition := Must(offsets.ManagePartition(where, 0))
		partition.MarkOffset(5, "")
		offsets.Commit()
		offsets.Close()
		Check(admin.DeleteConsumerGroupOffset(id, where, 0))
		found := Must(admin.ListConsumerGroupOffsets(id, map[string][]int32{where: {0}}))
		Same(found.GetBlock(where, 0).Offset, int64(-1))
	})
	Tried("describe cluster", func() {
		brokers, _, err := admin.DescribeCluster()
		Check(err)
		Same(len(brokers) > 0, true)
	})
	Tried("describe log dirs", func() {
		where := topic("dirs", 1)
		send(where, 0, []string{"a"}, nil)
		brokers, _, err := admin.DescribeCluster()
		Check(err)
		found := false
		for _, dirs := range Must(admin.DescribeLogDirs([]int32{brokers[0].ID()})) {
			for _, dir := range dirs {
				for _, topic := range dir.Topics {
					found = found || topic.Topic == where
				}
			}
		}
		Same(found, true)
	})
	Tried("elect leaders", func() {
		where := topic("elect", 1)
		found := Must(admin.ElectLeaders(sarama.PreferredElection, map[string][]int32{where: {0}}))
		err := found[where][0].ErrorCode
		Same(err == sarama.ErrNoError || err == sarama.ErrElectionNotNeeded, true)
	})
	Tried("list reassignments", func() {
		where := topic("still", 1)
		Same(len(Must(admin.ListPartitionReassignments(where, []int32{0}))), 0)
	})
	Tried("client quotas", func() {
		name := Name("quota")
		entity := []sarama.QuotaEntityComponent{{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Name: name}}
		Check(admin.AlterClientQuotas(entity, sarama.ClientQuotasOp{Key: "producer_byte_rate", Value: 1e6}, false))
		filter := []sarama.QuotaFilterComponent{{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Match: name}}
		Same(Must(admin.DescribeClientQuotas(filter, true))[0].Values["producer_byte_rate"], 1e6)
	})
	Unsupported("describe producers and transactions", "its admin client has no such call")
	admin.Close()
}

// Must2 panics with an error.
func Must2[A, B any](first A, _ B, err error) A { return Must(first, err) }
