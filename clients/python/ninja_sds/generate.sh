#!/bin/sh
# Writes the messages again, after a change of the .proto files. Run anywhere.
cd "$(dirname "$0")/../../.." || exit 1
exec protoc -I sds/sdspb -I capability/capabilitypb --python_out=clients/python/ninja_sds sds.proto capability.proto
