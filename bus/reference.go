package bus

import pb "qstream/schemas/qstream/v1"

// Reference is where the content of a message is that the record carries or
// refers to: inline content is in the record itself. Nil: there is none. Only of
// a record that was read, which has its place and time.
func (r Record) Reference(id string, c *pb.Content) *pb.ContentRef {
	switch where := c.GetWhere().(type) {
	case *pb.Content_Inline:
		return r.inline(id, c)
	case *pb.Content_Ref:
		return where.Ref
	}
	return nil
}

// inline refers to content that is in the record itself.
func (r Record) inline(id string, c *pb.Content) *pb.ContentRef {
	return &pb.ContentRef{
		MessageId: id, Topic: r.Topic, Partition: r.Partition, Offsets: []int64{r.Offset},
		Inline: true, Size: c.GetSize(), Sha256: c.GetSha256(), StoredMs: r.Time.UnixMilli(),
	}
}
