// Package statefile keeps the progress of a bridge in a file, for destinations
// that cannot keep it themselves, and the ownership of that file.
//
// A file is replaced as a whole: written beside, flushed, renamed, and the rename
// flushed. A crash leaves the old progress or the new one, and at most a file with
// the ending .tmp that means nothing. What cannot be read is a halt and never an
// empty progress, which would make the bridge begin anew.
//
// The owner holds a lock on a second file, with the ending .lock, since the first
// is replaced all the time. On Unix it is the kernel's (flock), which drops it when
// the process ends, however it ends. So there is nothing to take over: a lock that
// is held has a living holder, if a stopped one. On other systems the file's being
// there is the lock; after a crash it has to be removed by hand.
package statefile
