// Package doctest checks that the documentation is true: that the commands it names
// parse, that the blocks marked as runnable run, that the files, functions and
// tests it names exist, that what the code can halt with, measures and is
// configured by is in it and nothing else, and that Dockerfile and
// docker-compose.yml agree with the program.
//
// It holds tests alone, and judges no sentence that a program cannot.
//
// Marks in the documents, each in a line before a fenced block:
//
//	<!-- run: NAME -->   commands that a test of that name runs
//	<!-- config -->      a whole configuration file
//	<!-- sql -->         statements that run in the work table's database
//	<!-- inbox -->       what an application does to put work into the inbox
package doctest
