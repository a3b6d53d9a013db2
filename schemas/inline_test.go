package schemas_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func inlineRecords() map[string][]byte {
	inline := &pb.Content{Where: &pb.Content_Inline{Inline: []byte("Subject: x\r\n\r\nbody\r\n")}, Size: 20, Sha256: []byte("sum")}
	refers := &pb.Content{Where: &pb.Content_Ref{Ref: &pb.ContentRef{Topic: "t", Offsets: []int64{7}}}, Size: 20}
	encode := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			panic(err)
		}
		return b
	}
	received := encode(&pb.Received{Id: "M", Session: &pb.Session{Id: "s"}, Content: inline, Prepend: []byte("p"), Directory: 7})
	referring := encode(&pb.Received{Id: "M", Content: refers, Directory: 7})
	return map[string][]byte{
		"inline":              received,
		"refers":              referring,
		"no content":          encode(&pb.Received{Id: "M"}),
		"content twice":       append(bytes.Clone(referring), received...),
		"inline, then refers": append(bytes.Clone(received), referring...),
		"unknown field":       append(bytes.Clone(received), 0xf8, 0x07, 0x01),
		"empty":               {},
		"cut":                 received[:len(received)-1],
		"garbage":             []byte("\xff garbage"),
	}
}

// sameWithout compares with what decoding and emptying the content gives.
func sameWithout(t *testing.T, value []byte) {
	t.Helper()
	var want, got pb.Received
	wantErr, gotErr := proto.Unmarshal(value, &want), proto.Unmarshal(schemas.WithoutInline(schemas.Received, value), &got)
	if (wantErr == nil) != (gotErr == nil) {
		t.Fatalf("errors %v and %v", wantErr, gotErr)
	}
	if wantErr != nil {
		return
	}
	c, err := schemas.Inline(schemas.Received, value)
	if err != nil || c.ID != want.Id || !bytes.Equal(c.Inline, want.Content.GetInline()) || !bytes.Equal(c.Sha256, want.Content.GetSha256()) {
		t.Fatalf("got %+v, %v; want %v", c, err, &want)
	}
	if where, ok := want.Content.GetWhere().(*pb.Content_Inline); ok {
		where.Inline = []byte{}
	}
	if !proto.Equal(&got, &want) {
		t.Fatalf("got %v\nwant %v", &got, &want)
	}
}

func TestWithoutInline(t *testing.T) {
	for name, value := range inlineRecords() {
		t.Run(name, func(t *testing.T) { sameWithout(t, value) })
	}
	v, err := proto.Marshal(&pb.Reinject{Id: "M", Content: &pb.Content{Where: &pb.Content_Inline{Inline: []byte("body")}}, Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := schemas.Inline(schemas.Reinject, v); err != nil || string(c.Inline) != "body" || c.ID != "M" {
		t.Errorf("reinject: %+v, %v", c, err)
	}
	if _, err := schemas.Inline(schemas.Events, v); err == nil {
		t.Error("an event is said to carry content")
	}
	if got := schemas.WithoutInline(schemas.Events, v); !bytes.Equal(got, v) {
		t.Error("another topic's record was changed")
	}
}

func FuzzWithoutInline(f *testing.F) {
	for _, value := range inlineRecords() {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) { sameWithout(t, value) })
}
