// Package recordbatch encodes records in Kafka's record batch format v2 (Kafka's
// documentation, "Message Format"; org.apache.kafka.common.record.DefaultRecordBatch)
// and places keys as the Java client does.
//
// A record enters as a Body (key, value and headers, in their final form) and a
// time; a Builder puts it behind the others of its partition, which only adds the
// two deltas. A closed batch can be stamped with a producer again and again: its
// compressed records do not change, only the header and the checksum. In steady
// state a record costs no allocation.
//
// The package is pure but for the compressors. It reads back only what it has
// written, with every bound checked: it is no decoder for what brokers send.
package recordbatch
