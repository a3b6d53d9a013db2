package sinks_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"qstream/tapper/sink/sinktest"
	"qstream/test/peers"
)

// server is an S3-compatible store of others (moto), which checks signatures
// from its fifth request on.
const server = `
import os, sys, json, boto3
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "4"  # those before the first copy
from moto.server import ThreadedMotoServer
s = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
import contextlib
with contextlib.redirect_stdout(sys.stderr):
    s.start()
host, port = s.get_host_and_port()
url = "http://127.0.0.1:%d" % port
def client(name, id="x", key="x"):
    return boto3.client(name, endpoint_url=url, region_name="us-east-1", aws_access_key_id=id, aws_secret_access_key=key)
iam = client("iam")
iam.create_user(UserName="u")
key = iam.create_access_key(UserName="u")["AccessKey"]
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
iam.put_user_policy(UserName="u", PolicyName="all", PolicyDocument=json.dumps(policy))
client("s3").create_bucket(Bucket="copies")
print(json.dumps({"url": url, "id": key["AccessKeyId"], "key": key["SecretAccessKey"]}), flush=True)
s3 = client("s3", key["AccessKeyId"], key["SecretAccessKey"])
for line in sys.stdin:
    out = {}
    for o in s3.list_objects_v2(Bucket="copies").get("Contents", []):
        out[o["Key"]] = s3.get_object(Bucket="copies", Key=o["Key"])["Body"].read().decode()
    print(json.dumps(out), flush=True)
`

// TestS3OfOthers puts copies into a real S3-compatible server, by its own
// check of signatures, and reads them with its makers' client.
func TestS3OfOthers(t *testing.T) {
	peers.Need(t)
	python, err := filepath.Abs("../../../.cache/python/bin/python")
	if err == nil {
		_, err = os.Stat(python)
	}
	if err != nil {
		t.Fatalf("no Python with moto: .ci/install peers (%v)", err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", server)
	if testing.Verbose() {
		cmd.Stderr = os.Stderr // it tells each request
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	answers := json.NewDecoder(out)
	var where struct{ URL, ID, Key string }
	if err := answers.Decode(&where); err != nil {
		t.Fatal(err)
	}
	spec := "s3://copies/mail endpoint=" + where.URL + " key_file="
	s := open(t, spec+writeFile(t, "key", where.ID+"\n"+where.Key+"\n"))
	full, envelope := sinktest.Full(1, sinktest.Content(1)), sinktest.Envelope(2)
	put(t, s, full, full, envelope, sinktest.Large(3, 3<<20, nil))
	wrong := open(t, spec+writeFile(t, "wrong", where.ID+"\nanother secret\n"))
	if err := wrong.Put(t.Context(), full); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
		t.Errorf("with a wrong key: %v", err)
	}
	if _, err := fmt.Fprintln(in); err != nil {
		t.Fatal(err)
	}
	var objects map[string]string
	if err := answers.Decode(&objects); err != nil {
		t.Fatal(err)
	}
	const day = "mail/acme/2026/03/01/"
	if len(objects) != 5 || objects[day+full.ID+".eml"] != string(sinktest.Message(full)) ||
		!strings.Contains(objects[day+envelope.ID+".json"], "dave@acme.example") {
		for key, text := range objects {
			t.Errorf("%s: %d octets", key, len(text))
		}
	}
}
