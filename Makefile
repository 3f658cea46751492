# Sluice: build, test, demo, bench. Needs make, npm (9 to 11) and any Node from 20; everything else runs with the Node in node_modules.
#
#   make build              installs the packages and compiles to dist/
#   make test               all tests; ONLY=text runs the test files whose path contains the text
#   make demo               three nodes with the example application on this machine
#   make bench              the tables of speed and memory
#   make chaos              faults until MINUTES are over: SEED=… MINUTES=… NODES=3 LEASE=static FAULTS=40 (a run)
#   make check              types only
#   make gen                proto/gen from the .proto files

NODE := node_modules/.bin/node
STAMP := node_modules/.sluice-stamp
SOURCES := $(shell find node proxy proto -name '*.ts' 2>/dev/null) tsconfig.json tsconfig.build.json
PROTOS := $(wildcard proto/*.proto)
EXAMPLE := examples/express

.DELETE_ON_ERROR:
.PHONY: build test chaos demo bench gen check clean example test-tools

build: dist/.stamp

# Install scripts are skipped for all packages but `node`, which fetches its binary there: the others bring theirs along, and npm 11 would
# run none without being told. The last line proves that the binary is one for this machine.
$(STAMP): package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund
	npm rebuild node
	@$(NODE) --version
	@touch $@

dist/.stamp: $(STAMP) $(SOURCES) $(PROTOS)
	rm -rf dist
	$(NODE) node_modules/typescript/bin/tsc -p tsconfig.build.json
	mkdir -p dist/proto
	cp $(PROTOS) dist/proto/
	@touch $@

test: build example test-tools
	$(NODE) test/run.ts $(ONLY)

# Prints how to replay a failure, and leaves what is known of it.
chaos: build example test-tools
	@SEED=$(SEED) MINUTES=$(or $(MINUTES),0) NODES=$(or $(NODES),3) LEASE=$(or $(LEASE),static) FAULTS=$(or $(FAULTS),40) $(NODE) test/faults/run.ts

# What the tests use beyond the packages: the sqlite3 shell, Python's SQLite, libfuse 2 for the second mount driver, ip for network namespaces.
test-tools:
	@sh test/support/install-tools.sh

# The example has packages of its own; tests and demo run it.
example: $(STAMP)
	@if [ -f $(EXAMPLE)/package-lock.json ] && ! [ $(EXAMPLE)/node_modules/.sluice-stamp -nt $(EXAMPLE)/package-lock.json ]; then \
		cd $(EXAMPLE) && npm ci --ignore-scripts --no-audit --no-fund && touch node_modules/.sluice-stamp; \
	fi

demo: build example
	@test -f examples/demo.ts || { echo "make demo: examples/demo.ts is missing" >&2; exit 1; }
	@$(NODE) examples/demo.ts

bench: build
	@test -f bench/run.ts || { echo "make bench: bench/run.ts is missing" >&2; exit 1; }
	@$(NODE) bench/run.ts

gen: $(STAMP)
	rm -rf proto/gen
	$(NODE) node_modules/.bin/proto-loader-gen-types --longs=Number --defaults --arrays --oneofs --grpcLib=@grpc/grpc-js \
		--targetFileExtension=.ts --importFileExtension=.ts --outDir=proto/gen replication.proto -I proto

check: $(STAMP)
	$(NODE) node_modules/typescript/bin/tsc -p tsconfig.json

clean:
	rm -rf dist
