// Package kafka is the sink that stores items in Kafka topics, exactly once for
// consumers that read committed records.
//
// Items enter through a batch, which encodes each one straight into the record batch
// of its partition, the one that the Java client's partitioner would choose. A write
// compresses what is there and stores it, by default in one transaction with the
// bridge's position, a record of the compacted progress topic:
//
//	AddPartitionsToTxn    all partitions of the batch and the position's
//	Produce               one request to each broker, each partition once in it
//	EndTxn                commit
//
// What makes it exact:
//   - The position is a record of the same transaction: consumers of it and of the
//     items see both or neither.
//   - Open takes the producer's identity (InitProducerID), which ends an open
//     transaction one way or the other and shuts out requests that come late. Only
//     then is the position read, so it decides whether a batch is stored.
//   - After a failure or an answer that never came nothing of the old identity is
//     used again: no request is repeated but one that was refused for sure.
//   - Two codes that sound like "fenced" are given for an own transaction that timed
//     out as well. Taking the identity with our own id and epoch tells them apart.
//   - Brokers 4.3.0 and 4.4.0 can lose the markers of a committed transaction
//     (KAFKA-20734). Open and every change of a leader look for that, mend it where
//     the commit is known, and halt where it is not.
//
// With delivery at_least_once the producer is idempotent, the position is stored
// behind the records, and nobody is fenced: after a crash the last batch may come
// again, with the same wb-id's.
//
// What a topic refuses for good becomes a record of the dead-letter topic in the same
// transaction. The package reads no items back and decides no retry of a write.
package kafka
