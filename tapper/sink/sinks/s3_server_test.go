package sinks_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"qstream/tapper/sink/sinktest"
	"qstream/test/peers"
)

const s3Bucket = "copies"

// s3Server is the place of a real S3 server, which checks signatures.
func s3Server(t *testing.T) (*peers.S3, place) {
	server := peers.StartS3(t)
	server.Bucket(s3Bucket)
	g := newGate(t, server.Addr)
	key := writeFile(t, "key", peers.S3Access+"\n"+peers.S3Secret+"\n")
	return server, place{
		spec: "s3://" + s3Bucket + "/of/mail endpoint=http://" + g.addr() + " key_file=" + key, gate: g, apart: true,
		stored: func() []string {
			objects := server.Objects(s3Bucket)
			var all []string
			for _, key := range slices.Sorted(maps.Keys(objects)) {
				if name, ok := strings.CutSuffix(key, ".json"); ok {
					all = append(all, objects[key]+objects[name+".eml"]+objects[name+".age"])
				}
			}
			return all
		},
	}
}

// TestS3Server is TestEverySink with a real S3 server.
func TestS3Server(t *testing.T) {
	peers.Need(t)
	for _, c := range trials {
		t.Run(c.name, func(t *testing.T) {
			_, p := s3Server(t)
			c.try(t, p)
		})
	}
}

// TestS3ServerRefuses: whatever the server doesn't like is told by its name, nothing
// is there, and the same sink takes the copy once that is mended.
func TestS3ServerRefuses(t *testing.T) {
	peers.Need(t)
	server := peers.StartS3(t)
	good := peers.S3Access + "\n" + peers.S3Secret + "\n"
	small, large := sinktest.Full(1, sinktest.Content(1)), sinktest.Large(2, 50<<20, nil)
	for _, c := range []struct{ name, bucket, key, options, want string }{
		{"a wrong secret", "secret", peers.S3Access + "\nanother secret\n", "", "SignatureDoesNotMatch"},
		{"an unknown key", "unknown", "AKIDOTHER\n" + peers.S3Secret + "\n", "", "XAdminUserNotFound"},
		{"another region", "region", good, " region=eu-example-1", "AuthorizationHeaderMalformed"},
		{"no bucket", "missing", good, "", "NoSuchBucket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.want != "NoSuchBucket" {
				server.Bucket(c.bucket)
			}
			file := writeFile(t, "key", c.key)
			place := "s3://" + c.bucket + "/mail endpoint=http://" + server.Addr + " key_file=" + file
			s := open(t, place+c.options)
			for range 3 { // it is tried again
				if err := s.Put(t.Context(), small); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("small: %v", err)
				}
				if err := s.Put(t.Context(), large); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("large: %v", err)
				}
			}
			switch c.want {
			case "NoSuchBucket":
				server.Bucket(c.bucket)
			case "AuthorizationHeaderMalformed":
				s = open(t, place)
			default:
				if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if objects := server.Objects(c.bucket); len(objects) != 0 {
				t.Errorf("%d objects are there", len(objects))
			}
			put(t, s, small)
			if objects := server.Objects(c.bucket); objects["mail/acme/2026/03/01/"+small.ID+".eml"] != string(sinktest.Message(small)) {
				t.Errorf("not what was put: %q", objects)
			}
		})
	}
}

// TestS3ServerKilled: the server is killed while it takes a copy, and comes
// back: what is there then is whole.
func TestS3ServerKilled(t *testing.T) {
	peers.Need(t)
	server, p := s3Server(t)
	s := open(t, p.spec)
	first, c := sinktest.Full(1, sinktest.Content(1)), sinktest.Large(2, 20<<20, nil)
	put(t, s, first)
	killed := c
	killed.Open = sinktest.Watch(c.Open, func() { server.Kill() })
	refuses(t, s, killed, time.Minute)
	refuses(t, s, c, time.Minute) // nobody is there
	server.Start()
	put(t, s, c, first)
	objects := server.Objects(s3Bucket)
	const day = "of/mail/acme/2026/03/01/"
	if len(objects) != 4 || objects[day+c.ID+".eml"] != string(sinktest.Message(c)) || objects[day+first.ID+".eml"] != string(sinktest.Message(first)) {
		t.Errorf("%d objects: %q", len(objects), slices.Sorted(maps.Keys(objects)))
	}
}

// TestS3ServerKeys: keys of whatever characters IDs and prefixes may have are
// signed as the server reads them.
func TestS3ServerKeys(t *testing.T) {
	peers.Need(t)
	server := peers.StartS3(t)
	server.Bucket("odd.bucket-1")
	key := writeFile(t, "key", peers.S3Access+"\n"+peers.S3Secret+"\n")
	s := open(t, "s3://odd.bucket-1/-_x/.y/..z/a.b- endpoint=http://"+server.Addr+"/ key_file="+key)
	want := map[string]bool{}
	for n, name := range []string{"A", "a..b", "0-", "x_.", "9.eml", "z.json", strings.Repeat("long-", 25) + "123"} {
		c := sinktest.Full(n, sinktest.Content(n))
		c.ID, c.Subscription = name, "of."+name[:min(len(name), 100)]
		put(t, s, c)
		want["-_x/.y/..z/a.b-/"+c.Subscription+"/2026/03/01/"+c.ID+".eml"] = true
		want["-_x/.y/..z/a.b-/"+c.Subscription+"/2026/03/01/"+c.ID+".json"] = true
	}
	objects := server.Objects("odd.bucket-1")
	for name := range want {
		if objects[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	if len(objects) != len(want) {
		t.Errorf("%d objects of %d: %q", len(objects), len(want), slices.Sorted(maps.Keys(objects)))
	}
}
