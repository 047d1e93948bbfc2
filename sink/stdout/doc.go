// Package stdout is the sink that prints: JSON lines (package jsonline) for pipes
// and files, or a text for people. It is made for first steps, for `walbridge
// peek`, and for programs that read lines.
//
// It delivers at least once. A batch is durable when its output was taken: write(2)
// has returned, and for a regular file the file was flushed. Then the position goes
// into a state file. A crash between the two repeats the last batch, with the same
// ids and, as JSON lines, the same bytes. What the reader of a pipe has not read
// when it ends is lost to it; the bridge cannot know.
//
// A kill can cut a line in the middle. In a regular file the next start begins on
// a new line, so that the cut one stands alone and its item follows whole. In a
// named pipe that outlives the bridge the reader has to drop what has no line break
// when the writer goes.
//
// There is no fence for an output: whoever holds it can print. So ownership is a
// lock on the state file, and a second Open is refused while the first owner lives.
package stdout
