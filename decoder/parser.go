package decoder

// Message is one message of pgoutput: a pointer to one of this package's
// structs of that name.
type Message interface {
	// Kind is the message's first byte.
	Kind() MessageKind
}

// Parser reads messages of protocol versions 1 to 4. Its zero value is ready.
//
// It has a struct of each message, which it fills again and again: a message and
// all that it holds is valid until the next call, and names, values and contents
// alias the bytes that Parse was given. It is not safe for concurrent use.
//
// Between StreamStart and StreamStop most messages carry the xid of the
// (sub)transaction that they belong to; the Parser remembers where it is. In
// protocol version 1 there are no such blocks.
type Parser struct {
	inStream bool

	begin            BeginMessage
	commit           CommitMessage
	origin           OriginMessage
	relation         RelationMessage
	typ              TypeMessage
	insert           InsertMessage
	update           UpdateMessage
	delete           DeleteMessage
	truncate         TruncateMessage
	message          LogicalMessage
	streamStart      StreamStartMessage
	streamStop       StreamStopMessage
	streamCommit     StreamCommitMessage
	streamAbort      StreamAbortMessage
	beginPrepare     BeginPrepareMessage
	prepare          PrepareMessage
	commitPrepared   CommitPreparedMessage
	rollbackPrepared RollbackPreparedMessage
	streamPrepare    StreamPrepareMessage

	// The values of rows are shared between insert, update and delete, and cleared when
	// the next message has none, so that no frame is held on to for long.
	newRow, oldRow []Value
}

// Parse reads the one message that data is. Bytes beyond its end are an error.
//
// Every error is a *WireError; the Parser can go on after it.
func (p *Parser) Parse(data []byte) (Message, error) {
	return p.parseHead(data, int64(len(data)))
}

// parseHead reads a message of size bytes of which data is only the head. Of a
// row the columns that came whole are there; other fields that did not are zero.
func (p *Parser) parseHead(data []byte, size int64) (Message, error) {
	r := reader{data: data, size: size}
	return p.parse(&r)
}

// parse reads a message into the parser's struct for it.
func (p *Parser) parse(r *reader) (Message, error) {
	r.kind = MessageKind(r.uint8("type"))
	var m Message
	switch r.kind {
	case KindInsert:
		p.oldRow = drop(p.oldRow)
		p.insert.decode(r, p)
		m = &p.insert
	case KindUpdate:
		p.update.decode(r, p)
		m = &p.update
	case KindDelete:
		p.newRow = drop(p.newRow)
		p.delete.decode(r, p)
		m = &p.delete
	case KindBegin:
		p.release()
		p.begin.decode(r)
		m = &p.begin
	case KindCommit:
		p.release()
		p.commit.decode(r)
		m = &p.commit
	case KindOrigin:
		p.origin.decode(r)
		m = &p.origin
	case KindRelation:
		p.relation.decode(r, p.inStream)
		m = &p.relation
	case KindType:
		p.typ.decode(r, p.inStream)
		m = &p.typ
	case KindTruncate:
		p.truncate.decode(r, p.inStream)
		m = &p.truncate
	case KindMessage:
		p.message.decode(r, p.inStream)
		m = &p.message
	default:
		m = p.parseLater(r)
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return m, nil
}

// parseLater reads the messages of protocol versions 2 to 4.
func (p *Parser) parseLater(r *reader) Message {
	switch r.kind {
	case KindStreamStart:
		p.streamStart.decode(r)
		p.inStream = r.err == nil
		return &p.streamStart
	case KindStreamStop:
		p.inStream = false
		return &p.streamStop
	case KindStreamCommit:
		p.streamCommit.decode(r)
		return &p.streamCommit
	case KindStreamAbort:
		p.streamAbort.decode(r)
		return &p.streamAbort
	case KindBeginPrepare:
		p.beginPrepare.decode(r)
		return &p.beginPrepare
	case KindPrepare:
		p.prepare.decode(r)
		return &p.prepare
	case KindCommitPrepared:
		p.commitPrepared.decode(r)
		return &p.commitPrepared
	case KindRollbackPrepared:
		p.rollbackPrepared.decode(r)
		return &p.rollbackPrepared
	case KindStreamPrepare:
		p.streamPrepare.decode(r)
		return &p.streamPrepare
	}
	r.fail(0, "type", "the type of a message", r.kind.String())
	return nil
}

// release lets go of the frames that rows and messages alias.
func (p *Parser) release() {
	p.newRow, p.oldRow = drop(p.newRow), drop(p.oldRow)
	p.message = LogicalMessage{}
}

// drop lets go of the frame that a row aliases, and keeps the memory of its
// values.
func drop(row []Value) []Value {
	clear(row)
	return row[:0]
}

// streamXid reads the xid that leads a message inside a stream block.
func (r *reader) streamXid(inStream bool) uint32 {
	if !inStream {
		return 0
	}
	return r.uint32("xid")
}
