// Package discard is the sink for benchmarks: it encodes items as a real sink does,
// drops them, and keeps only the position. What is delivered to it is gone, so it
// is no destination for data that anybody wants.
package discard
