// The report of franz-go.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	. "report"
)

var (
	ctx   = context.Background()
	admin *kadm.Client
)

func client(options ...kgo.Opt) *kgo.Client {
	all := append([]kgo.Opt{kgo.SeedBrokers(Address()), kgo.RecordPartitioner(kgo.ManualPartitioner())}, options...)
	return Must(kgo.NewClient(all...))
}

func topic(what string, partitions int32) string {
	made := Name(what)
	Check(Must(admin.CreateTopics(ctx, partitions, 1, nil, made))[made].Err)
	return made
}

func send(topic string, partition int32, values []string, options ...kgo.Opt) {
	it := client(options...)
	defer it.Close()
	records := make([]*kgo.Record, len(values))
	for place, value := range values {
		records[place] = &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}
	}
	Check(it.ProduceSync(ctx, records...).FirstErr())
}

func polled(it *kgo.Client) []*kgo.Record {
	within, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	return it.PollFetches(within).Records()
}

func values(it *kgo.Client, count int) []string {
	var found []string
	Until(fmt.Sprint(count, " records"), func() bool {
		for _, record := range polled(it) {
			found = append(found, string(record.Value))
		}
		return len(found) >= count
	})
	return found
}

func read(topic string, count int, options ...kgo.Opt) []string {
	start := kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}})
	it := client(append(options, start)...)
	defer it.Close()
	return values(it, count)
}

type member struct {
	*kgo.Client
	lock  sync.Mutex
	owned map[int32]bool
}

func join(topic, id string, options ...kgo.Opt) *member {
	it := &member{owned: map[int32]bool{}}
	note := func(has bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
			it.lock.Lock()
			defer it.lock.Unlock()
			for _, partition := range topics[topic] {
				if has {
					it.owned[partition] = true
				} else {
					delete(it.owned, partition)
				}
			}
		}
	}
	it.Client = client(append([]kgo.Opt{
		kgo.ConsumerGroup(id), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(note(true)), kgo.OnPartitionsRevoked(note(false)), kgo.OnPartitionsLost(note(false)),
	}, options...)...)
	return it
}

func (it *member) count() int {
	it.lock.Lock()
	defer it.lock.Unlock()
	return len(it.owned)
}

// Two members share, one leaves, the other goes on from the commit.
func group(options ...kgo.Opt) {
	where, id := topic("group", 4), Name("group")
	first, second := join(where, id, options...), join(where, id, options...)
	Until("two members to share", func() bool {
		polled(first.Client)
		polled(second.Client)
		return first.count() == 2 && second.count() == 2
	})
	for partition := range int32(4) {
		send(where, partition, Numbers(fmt.Sprint(partition, "-"), 5))
	}
	found := 0
	Until("all records", func() bool {
		found += len(polled(first.Client)) + len(polled(second.Client))
		return found >= 20
	})
	Check(first.CommitUncommittedOffsets(ctx))
	Check(second.CommitUncommittedOffsets(ctx))
	second.Close()
	Until("one to have all", func() bool { polled(first.Client); return first.count() == 4 })
	first.Close()
	send(where, 3, []string{"new"})
	third := join(where, id, options...)
	defer third.Close()
	Same(values(third.Client, 1), []string{"new"})
}

func main() {
	it := client()
	admin = kadm.NewClient(it)
	Tried("produce and consume", func() {
		where := topic("plain", 1)
		writer := client()
		defer writer.Close()
		at := time.UnixMilli(1234567890123)
		Check(writer.ProduceSync(ctx, &kgo.Record{Topic: where, Key: []byte("k"), Value: []byte("v"), Timestamp: at,
			Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("x")}}}).FirstErr())
		reader := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{where: {0: kgo.NewOffset().AtStart()}}))
		defer reader.Close()
		got := reader.PollFetches(ctx).Records()[0]
		Same([]string{string(got.Key), string(got.Value), got.Headers[0].Key, string(got.Headers[0].Value)},
			[]string{"k", "v", "h", "x"})
		Same(got.Timestamp.UnixMilli(), int64(1234567890123))
	})
	Tried("compression codecs", func() {
		where := topic("codecs", 1)
		var wanted []string
		for name, codec := range map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
			"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()} {
			sent := Numbers(name+" compresses this text and this text ", 20)
			send(where, 0, sent, kgo.ProducerBatchCompression(codec))
			wanted = append(wanted, sent...)
		}
		Same(read(where, len(wanted)), wanted)
	})
	Tried("idempotent producer", func() {
		where := topic("idempotent", 1)
		send(where, 0, Numbers("", 500))
		Same(read(where, 500), Numbers("", 500))
	})
	Tried("offsets by time", func() {
		where := topic("times", 1)
		for number := range 3 {
			at := time.UnixMilli(1_000_000_000_000 + int64(number)*1000)
			Check(it.ProduceSync(ctx, &kgo.Record{Topic: where, Value: []byte("v"), Timestamp: at}).FirstErr())
		}
		found, _ := Must(admin.ListOffsetsAfterMilli(ctx, 1_000_000_000_500, where)).Lookup(where, 0)
		Same(found.Offset, int64(1))
		found, _ = Must(admin.ListEndOffsets(ctx, where)).Lookup(where, 0)
		Same(found.Offset, int64(3))
	})
	Tried("consumer group", func() { group(kgo.Balancers(kgo.RangeBalancer())) })
	Tried("cooperative rebalancing", func() { group(kgo.Balancers(kgo.CooperativeStickyBalancer())) })
	Tried("consumer group, KIP-848", func() { group(kgo.ServerSideBalancer()) })
	Tried("static member", func() {
		where, id := topic("static", 1), Name("static")
		for _, value := range []string{"a", "b"} {
			send(where, 0, []string{value})
			reader := join(where, id, kgo.InstanceID("one"))
			Same(values(reader.Client, 1), []string{value})
			Check(reader.CommitUncommittedOffsets(ctx))
			reader.Close()
		}
		described := Must(admin.DescribeGroups(ctx, id))
		Same(*described[id].Members[0].InstanceID, "one")
	})
	Tried("subscription by pattern", func() {
		where := topic("pattern", 1)
		send(where, 0, []string{"a"})
		reader := client(kgo.ConsumerGroup(Name("pattern")), kgo.ConsumeTopics("^report-pat.*"+Run()), kgo.ConsumeRegex())
		defer reader.Close()
		Same(values(reader, 1), []string{"a"})
	})
	Tried("transactions", func() {
		source, target, id := topic("source", 1), topic("target", 1), Name("mover")
		send(source, 0, []string{"a"})
		session := Must(kgo.NewGroupTransactSession(kgo.SeedBrokers(Address()), kgo.TransactionalID(Name("transaction")),
			kgo.ConsumerGroup(id), kgo.ConsumeTopics(source), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())))
		defer session.Close()
		for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
			fetches := session.PollFetches(ctx)
			Same(string(fetches.Records()[0].Value), "a")
			Check(session.Begin())
			Check(session.ProduceSync(ctx, &kgo.Record{Topic: target, Value: fmt.Append(nil, bool(end))}).FirstErr())
			Same(Must(session.End(ctx, end)), bool(end))
		}
		Same(read(target, 1, kgo.FetchIsolationLevel(kgo.ReadCommitted())), []string{"true"})
		committed, _ := Must(admin.FetchOffsets(ctx, id)).Lookup(source, 0)
		Same(committed.At, int64(1))
	})
	Tried("share group", func() {
		where, id, value := topic("queue", 2), Name("sharers"), "earliest"
		alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
		resource := kmsg.NewIncrementalAlterConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, id
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Value = "share.auto.offset.reset", &value
		resource.Configs = append(resource.Configs, config)
		alter.Resources = append(alter.Resources, resource)
		Check(kerr.ErrorForCode(Must(alter.RequestWith(ctx, it)).Resources[0].ErrorCode))
		send(where, 0, Numbers("a", 10))
		send(where, 1, Numbers("b", 10))
		reader := client(kgo.ShareGroup(id), kgo.ConsumeTopics(where))
		defer reader.Close()
		unique := map[string]bool{}
		Until("all records", func() bool {
			for _, record := range polled(reader) {
				unique[string(record.Value)] = true
				record.Ack(kgo.AckAccept)
			}
			return len(unique) == 20
		})
		Check(reader.FlushAcks(ctx))
	})
	Tried("create, describe, delete topics", func() {
		where := topic("topics", 3)
		Same(len(Must(admin.ListTopics(ctx, where))[where].Partitions), 3)
		Check(Must(admin.DeleteTopics(ctx, where))[where].Err)
		Until("it to be gone", func() bool { return !Must(admin.ListTopics(ctx)).Has(where) })
	})
	Tried("add partitions", func() {
		where := topic("grow", 1)
		Check(Must(admin.UpdatePartitions(ctx, 4, where))[where].Err)
		Until("four", func() bool { return len(Must(admin.ListTopics(ctx, where))[where].Partitions) == 4 })
	})
	Tried("configs", func() {
		where, value := topic("configs", 1), "5000"
		changes := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}
		Check(Must(admin.AlterTopicConfigs(ctx, changes, where))[0].Err)
		for _, config := range Must(admin.DescribeTopicConfigs(ctx, where))[0].Configs {
			if config.Key == "retention.ms" {
				Same(*config.Value, "5000")
			}
		}
	})
	Tried("list, describe, delete groups", func() {
		where, id := topic("administered", 1), Name("administered")
		send(where, 0, []string{"a"})
		reader := join(where, id)
		Same(values(reader.Client, 1), []string{"a"})
		Check(reader.CommitUncommittedOffsets(ctx))
		described := Must(admin.DescribeGroups(ctx, id))[id]
		Same([]any{described.State, len(described.Members)}, []any{"Stable", 1})
		reader.Close()
		_, listed := Must(admin.ListGroups(ctx))[id]
		Same(listed, true)
		lag := Must(admin.Lag(ctx, id))[id]
		Same(lag.Lag.Total(), int64(0))
		Check(Must(admin.DeleteGroups(ctx, id))[id].Err)
		_, listed = Must(admin.ListGroups(ctx))[id]
		Same(listed, false)
	})
	Tried("delete records", func() {
		where := topic("records", 1)
		send(where, 0, []string{"a", "b", "c"})
		offsets := kadm.Offsets{}
		offsets.AddOffset(where, 0, 2, -1)
		deleted, _ := Must(admin.DeleteRecords(ctx, offsets)).Lookup(where, 0)
		Same(deleted.LowWatermark, int64(2))
		Same(read(where, 1), []string{"c"})
	})
	Tried("delete group offsets", func() {
		where, id := topic("forgotten", 1), Name("forgotten")
		offsets := kadm.Offsets{}
		offsets.AddOffset(where, 0, 0, -1)
		Check(Must(admin.CommitOffsets(ctx, id, offsets)).Error())
		var all kadm.TopicsSet
		all.Add(where, 0)
		Check(Must(admin.DeleteOffsets(ctx, id, all)).Error())
		_, found := Must(admin.FetchOffsets(ctx, id)).Lookup(where, 0)
		Same(found, false)
	})
	Tried("describe cluster", func() {
		metadata := Must(admin.BrokerMetadata(ctx))
		Same(len(metadata.Brokers) > 0 && metadata.Cluster != "", true)
	})
	Tried("describe log dirs", func() {
		where := topic("dirs", 1)
		send(where, 0, []string{"a"})
		var all kadm.TopicsSet
		all.Add(where, 0)
		found := false
		Must(admin.DescribeAllLogDirs(ctx, all)).Each(func(dir kadm.DescribedLogDir) {
			_, has := dir.Topics.Lookup(where, 0)
			found = found || has
		})
		Same(found, true)
	})
	Tried("elect leaders", func() {
		where := topic("elect", 1)
		var all kadm.TopicsSet
		all.Add(where, 0)
		err := Must(admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, all))[where][0].Err
		Same(err == nil || errors.Is(err, kerr.ElectionNotNeeded), true)
	})
	Tried("list reassignments", func() {
		Same(len(Must(admin.ListPartitionReassignments(ctx, nil))), 0)
	})
	Tried("client quotas", func() {
		name := Name("quota")
		entity := kadm.ClientQuotaEntity{{Type: "client-id", Name: &name}}
		change := kadm.AlterClientQuotaEntry{Entity: entity, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 1e6}}}
		Check(Must(admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{change}))[0].Err)
		match := kadm.DescribeClientQuotaComponent{Type: "client-id", MatchName: &name, MatchType: kmsg.QuotasMatchTypeExact}
		found := Must(admin.DescribeClientQuotas(ctx, true, []kadm.DescribeClientQuotaComponent{match}))
		Same(found[0].Values[0].Value, 1e6)
	})
	Tried("describe producers and transactions", func() {
		where, id := topic("producers", 1), Name("described")
		writer := client(kgo.TransactionalID(id))
		defer writer.Close()
		Check(writer.BeginTransaction())
		Check(writer.ProduceSync(ctx, &kgo.Record{Topic: where, Value: []byte("v")}).FirstErr())
		described := Must(admin.DescribeTransactions(ctx, id))[id]
		Same([]any{described.State, described.Topics.Lookup(where, 0)}, []any{"Ongoing", true})
		var all kadm.TopicsSet
		all.Add(where, 0)
		Same(len(Must(admin.DescribeProducers(ctx, all)).SortedProducers()), 1)
		Check(writer.EndTransaction(ctx, kgo.TryCommit))
	})
	it.Close()
}
