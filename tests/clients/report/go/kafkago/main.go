// The report of kafka-go.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	. "report"
)

var (
	ctx    = context.Background()
	client *kafka.Client
)

func topic(what string, partitions int) string {
	made := Name(what)
	answer := Must(client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{
		{Topic: made, NumPartitions: partitions, ReplicationFactor: 1}}}))
	Check(answer.Errors[made])
	return made
}

type fixed int

func (partition fixed) Balance(kafka.Message, ...int) int { return int(partition) }

func write(topic string, partition int, codec kafka.Compression, messages ...kafka.Message) {
	writer := &kafka.Writer{Addr: kafka.TCP(Address()), Topic: topic, Balancer: fixed(partition), Compression: codec,
		BatchTimeout: 10 * time.Millisecond, RequiredAcks: kafka.RequireAll}
	defer writer.Close()
	Check(writer.WriteMessages(ctx, messages...))
}

func send(topic string, partition int, values []string) {
	messages := make([]kafka.Message, len(values))
	for place, value := range values {
		messages[place].Value = []byte(value)
	}
	write(topic, partition, 0, messages...)
}

func read(topic string, count int, isolation kafka.IsolationLevel) []kafka.Message {
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{Address()}, Topic: topic, MaxWait: 200 * time.Millisecond,
		IsolationLevel: isolation})
	defer reader.Close()
	within, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	found := make([]kafka.Message, count)
	for place := range found {
		found[place] = Must(reader.ReadMessage(within))
	}
	return found
}

func texts(found []kafka.Message) []string {
	all := make([]string, len(found))
	for place, message := range found {
		all[place] = string(message.Value)
	}
	return all
}

func join(topic, id string) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{Brokers: []string{Address()}, GroupID: id, Topic: topic,
		StartOffset: kafka.FirstOffset, MaxWait: 200 * time.Millisecond, SessionTimeout: 6 * time.Second,
		HeartbeatInterval: 300 * time.Millisecond, JoinGroupBackoff: 200 * time.Millisecond})
}

func values(reader *kafka.Reader, count int) []string {
	within, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var found []kafka.Message
	for len(found) < count {
		message := Must(reader.FetchMessage(within))
		Check(reader.CommitMessages(within, message))
		found = append(found, message)
	}
	return texts(found)
}

func main() {
	client = &kafka.Client{Addr: kafka.TCP(Address()), Timeout: 20 * time.Second}
	Tried("produce and consume", func() {
		where := topic("plain", 1)
		at := time.UnixMilli(1234567890123)
		write(where, 0, 0, kafka.Message{Key: []byte("k"), Value: []byte("v"), Time: at,
			Headers: []kafka.Header{{Key: "h", Value: []byte("x")}}})
		got := read(where, 1, kafka.ReadUncommitted)[0]
		Same([]string{string(got.Key), string(got.Value), got.Headers[0].Key, string(got.Headers[0].Value)},
			[]string{"k", "v", "h", "x"})
		Same(got.Time.UnixMilli(), at.UnixMilli())
	})
	Tried("compression codecs", func() {
		where := topic("codecs", 1)
		var wanted []string
		for _, codec := range []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
			sent := Numbers(codec.String()+" compresses this text and this text ", 20)
			messages := make([]kafka.Message, len(sent))
			for place, value := range sent {
				messages[place].Value = []byte(value)
			}
			write(where, 0, codec, messages...)
			wanted = append(wanted, sent...)
		}
		Same(texts(read(where, len(wanted), kafka.ReadUncommitted)), wanted)
	})
	Unsupported("idempotent producer", "the client has none")
	Tried("offsets by time", func() {
		where := topic("times", 1)
		for number := range 3 {
			write(where, 0, 0, kafka.Message{Value: []byte("v"), Time: time.UnixMilli(1_000_000_000_000 + int64(number)*1000)})
		}
		answer := Must(client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
			where: {kafka.TimeOffsetOf(0, time.UnixMilli(1_000_000_000_500)), kafka.LastOffsetOf(0)}}}))
		found := answer.Topics[where][0]
		_, has := found.Offsets[1]
		Same([]any{has, found.LastOffset}, []any{true, int64(3)})
	})
	Tried("consumer group", func() {
		where, id := topic("group", 4), Name("group")
		for partition := range 4 {
			send(where, partition, Numbers(fmt.Sprint(partition, "-"), 5))
		}
		first, second := join(where, id), join(where, id)
		Until("two members", func() bool {
			groups := Must(client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{id}})).Groups
			return groups[0].GroupState == "Stable" && len(groups[0].Members) == 2
		})
		found := append(values(first, 5), values(second, 5)...)
		Same(len(found), 10)
		Check(second.Close())
		Check(first.Close())
		third := join(where, id)
		defer third.Close()
		found = append(found, values(third, 10)...)
		unique := map[string]bool{}
		for _, value := range found {
			unique[value] = true
		}
		Same(len(unique), 20)
	})
	Unsupported("cooperative rebalancing", "the client has no cooperative assignor")
	Unsupported("consumer group, KIP-848", "the client speaks the classic protocol")
	Unsupported("static member", "the client has no static membership")
	Unsupported("subscription by pattern", "the client has no such call")
	Unsupported("transactions", "the client has the requests, but no producer that uses them")
	Unsupported("share group", "the client has no share consumer")
	Tried("create, describe, delete topics", func() {
		where := topic("topics", 3)
		described := Must(client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{where}}))
		Same(len(described.Topics[0].Partitions), 3)
		Check(Must(client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{where}})).Errors[where])
		Until("it to be gone", func() bool {
			for _, found := range Must(client.Metadata(ctx, &kafka.MetadataRequest{})).Topics {
				if found.Name == where {
					return false
				}
			}
			return true
		})
	})
	Tried("add partitions", func() {
		where := topic("grow", 1)
		answer := Must(client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
			Topics: []kafka.TopicPartitionsConfig{{Name: where, Count: 4}}}))
		Check(answer.Errors[where])
	})
	Tried("configs", func() {
		where := topic("configs", 1)
		answer := Must(client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
			Resources: []kafka.IncrementalAlterConfigsRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: where,
				Configs: []kafka.IncrementalAlterConfigsRequestConfig{
					{Name: "retention.ms", Value: "5000", ConfigOperation: kafka.ConfigOperationSet}}}}}))
		Check(answer.Resources[0].Error)
		found := Must(client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
			Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: where,
				ConfigNames: []string{"retention.ms"}}}}))
		Same(found.Resources[0].ConfigEntries[0].ConfigValue, "5000")
	})
	Tried("list, describe, delete groups", func() {
		where, id := topic("administered", 1), Name("administered")
		send(where, 0, []string{"a"})
		reader := join(where, id)
		Same(values(reader, 1), []string{"a"})
		Check(reader.Close())
		listed := func() bool {
			for _, found := range Must(client.ListGroups(ctx, &kafka.ListGroupsRequest{})).Groups {
				if found.GroupID == id {
					return true
				}
			}
			return false
		}
		Same(listed(), true)
		offsets := Must(client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: id, Topics: map[string][]int{where: {0}}}))
		Same(offsets.Topics[where][0].CommittedOffset, int64(1))
		Check(Must(client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{id}})).Errors[id])
		Same(listed(), false)
	})
	Unsupported("delete records", "the client has no such call")
	Tried("delete group offsets", func() {
		where, id := topic("forgotten", 1), Name("forgotten")
		send(where, 0, []string{"a"})
		reader := join(where, id)
		Same(values(reader, 1), []string{"a"})
		Check(reader.Close())
		answer := Must(client.OffsetDelete(ctx, &kafka.OffsetDeleteRequest{GroupID: id, Topics: map[string][]int{where: {0}}}))
		Check(answer.Error)
		Check(answer.Topics[where][0].Error)
	})
	Tried("describe cluster", func() {
		metadata := Must(client.Metadata(ctx, &kafka.MetadataRequest{}))
		Same(len(metadata.Brokers) > 0 && metadata.ClusterID != "", true)
	})
	Unsupported("describe log dirs", "the client has no such call")
	Tried("elect leaders", func() {
		where := topic("elect", 1)
		answer := Must(client.ElectLeaders(ctx, &kafka.ElectLeadersRequest{Topic: where, Partitions: []int{0}}))
		Check(answer.Error)
	})
	Tried("list reassignments", func() {
		answer := Must(client.ListPartitionReassignments(ctx, &kafka.ListPartitionReassignmentsRequest{}))
		Check(answer.Error)
		Same(len(answer.Topics), 0)
	})
	Tried("client quotas", func() {
		name := Name("quota")
		altered := Must(client.AlterClientQuotas(ctx, &kafka.AlterClientQuotasRequest{Entries: []kafka.AlterClientQuotaEntry{{
			Entities: []kafka.AlterClientQuotaEntity{{EntityType: "client-id", EntityName: name}},
			Ops:      []kafka.AlterClientQuotaOps{{Key: "producer_byte_rate", Value: 1e6}}}}}))
		Check(altered.Entries[0].Error)
		found := Must(client.DescribeClientQuotas(ctx, &kafka.DescribeClientQuotasRequest{
			Components: []kafka.DescribeClientQuotasRequestComponent{{EntityType: "client-id", Match: name}}}))
		Same(found.Entries[0].Values[0].Value, 1e6)
	})
	Unsupported("describe producers and transactions", "the client has no such call")
}
