# driftwatch: every target does its own set-up. Results go to bin/ and .cache/.
SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: build cross demo test postgres unleash etcd chromium browser check live bench compare calibrate eval fuzz clean

PROMETHEUS_VERSION := v0.315.0
PROMETHEUS := .cache/prometheus-$(PROMETHEUS_VERSION)
PROMTOOL := .cache/promtool-$(PROMETHEUS_VERSION)
VERSION := $(shell sed -n 's/^## \[\([0-9][^]]*\)\].*/\1/p' CHANGELOG.md | head -n 1)
LDFLAGS := -X main.version=$(VERSION)
ARGS ?=
RUNS ?= 20

# part NAME,COMMAND runs a command and notes how long it took; .ci/run prints the table.
define part
@mkdir -p .cache; start=$$(date +%s); status=0; ( $(2) ) || status=$$?; \
echo "$(1) $$(( $$(date +%s) - start ))" >> .cache/parts; exit $$status
endef

build:
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/driftwatch ./cmd/driftwatch

# Whether it still compiles where nobody tests it. Flag files are only read there.
cross:
	GOOS=windows go build ./...
	GOOS=darwin go build ./...

bin/demo: FORCE
	cd demo && go build -trimpath -o ../bin/demo .

# The demo: a shop, a Prometheus and an upgrade on this machine's loopback; ARGS=--scenario=no-change.
demo: build bin/demo
	bin/demo --driftwatch bin/driftwatch $(ARGS)

# The Prometheus server that tests run against; two minutes once, then cached.
$(PROMETHEUS):
	mkdir -p .cache
	cd tools/prometheus && GOFLAGS='-tags=remove_all_sd,netgo' go build -trimpath -o ../../$(PROMETHEUS).new github.com/prometheus/prometheus/cmd/prometheus
	mv $(PROMETHEUS).new $(PROMETHEUS)

$(PROMTOOL):
	mkdir -p .cache
	cd tools/prometheus && GOFLAGS='-tags=remove_all_sd,netgo' go build -trimpath -o ../../$(PROMTOOL).new github.com/prometheus/prometheus/cmd/promtool
	mv $(PROMTOOL).new $(PROMTOOL)

# PostgreSQL's programs, with which tests start servers of their own. The one that Debian's
# package would make and start is not wanted.
postgres:
	@command -v initdb > /dev/null || ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || { \
	mkdir -p /etc/postgresql-common/createcluster.d && \
	echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/no-main-cluster.conf && \
	apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql; } || { \
	echo 'tests need initdb and postgres; as root: apt-get install -y --no-install-recommends postgresql' >&2; exit 1; }

# The Unleash server that tests run against, with the versions of its package-lock.json.
UNLEASH := tools/unleash/node_modules/.package-lock.json
unleash: $(UNLEASH)
$(UNLEASH): tools/unleash/package-lock.json
	cd tools/unleash && npm ci --omit=dev --omit=optional
	touch $@
# Debian's etcd, below the Kubernetes API server that tests run against.
etcd:
	@command -v etcd > /dev/null || { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y --no-install-recommends etcd-server; } || \
	{ echo "there is no etcd; install it as root: apt-get install etcd-server" >&2; exit 1; }

# Reports and the web pages in a real browser: Debian's Chromium, driven from Node.js by the
# versions of package-lock.json. Pictures of the pages go to .cache/screenshots.
BROWSER := tools/browser/node_modules/.package-lock.json
$(BROWSER): tools/browser/package-lock.json
	cd tools/browser && npm ci --omit=dev --omit=optional
	touch $@

chromium:
	@command -v chromium > /dev/null || { [ "$$(id -u)" = 0 ] && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } || \
	{ echo "there is no chromium; install it as root: apt-get install --no-install-recommends chromium" >&2; exit 1; }

browser: build chromium $(BROWSER)
	rm -rf .cache/pages .cache/screenshots && mkdir -p .cache/pages .cache/screenshots
	PAGES=$(CURDIR)/.cache/pages go test -tags browser -count=1 -p 1 -run '^TestWritePages$$' ./internal/report ./internal/web
	DRIFTWATCH=bin/driftwatch PAGES=.cache/pages SCREENSHOTS=.cache/screenshots node --test --test-concurrency=2 --test-reporter=spec tools/browser/report.test.mjs tools/browser/web.test.mjs

test:
	@rm -f .cache/parts
	$(call part,build,$(MAKE) --no-print-directory build bin/demo)
	$(call part,windows,GOOS=windows go build -o /dev/null ./cmd/driftwatch)
	$(call part,prometheus,$(MAKE) --no-print-directory $(PROMETHEUS))
	$(call part,postgres,$(MAKE) --no-print-directory postgres)
	$(call part,unleash,$(MAKE) --no-print-directory unleash)
	$(call part,chromium,$(MAKE) --no-print-directory chromium $(BROWSER))
	$(call part,browser,$(MAKE) --no-print-directory browser)
	$(call part,test,go test -count=1 ./...)
	$(call part,test-demo,cd demo && go test -count=1 ./...)
	$(call part,test-kube,$(MAKE) --no-print-directory etcd && cd tools/kubernetes && go test -count=1 ./...)
	$(call part,test-goff,cd tools/goff && go test -count=1 ./...)

# What a change passes before it is committed.
check: build cross $(PROMETHEUS) postgres unleash etcd
	gofmt -l cmd internal demo tools/kubernetes tools/goff | (! grep .)
	go vet ./... && (cd demo && go vet ./...) && (cd tools/kubernetes && go vet ./...) && (cd tools/goff && go vet ./...)
	go tool -modfile=tools/golangci-lint/go.mod golangci-lint run ./...
	cd demo && go tool -modfile=../tools/golangci-lint/go.mod golangci-lint run --config ../.golangci.yml ./...
	cd tools/kubernetes && go tool -modfile=../golangci-lint/go.mod golangci-lint run --config ../../.golangci.yml ./...
	cd tools/goff && go tool -modfile=../golangci-lint/go.mod golangci-lint run --config ../../.golangci.yml ./...
	go test -race -count=1 ./...
	cd demo && go test -count=1 ./...
	cd tools/kubernetes && go test -count=1 ./...
	cd tools/goff && go test -count=1 ./...

# Slow and repeated: each story of the demo RUNS times, and 500 kills of a driftwatch that is
# turning off a flag, for each kind of journal.
live: build bin/demo postgres
	DRIFTWATCH_RANDOM_FILES=9000 go test -count=1 -timeout 1h -v -run '^TestRandomFiles$$' ./internal/flags
	DRIFTWATCH_KILLS=500 go test -count=1 -timeout 2h -v -run '^TestKilledAnywhere$$' ./internal/worker
	cd demo && DRIFTWATCH_BINARY=$(CURDIR)/bin/driftwatch DEMO_RUNS=$(RUNS) go test -tags live -count=1 -timeout 4h -v -run TestLive ./...

bench:
	go test -run '^$$' -bench . -benchmem ./internal/...

# driftwatch and the judges of other tools on the same simulated upgrades. The table goes into
# docs/statistics.md too, unless ARGS are given; ARGS='-services 20' takes a minute.
compare:
	go run ./internal/sim/cmd/compare $(or $(ARGS),-markdown docs/statistics.md)

# Whether the promised rates hold: an hour of two cores, gone on with after an interruption.
# The tables in docs/statistics.md; ARGS='-only S0,S6 -scale small' prints some of them.
calibrate:
	go run ./internal/sim/cmd/calibrate $(or $(ARGS),-markdown docs/statistics.md)

# Labelled faults and placebos of real systems (eval/README.md), through the built program and a
# real Prometheus; needs python3, which a Debian package of that name has.
eval: build $(PROMETHEUS) $(PROMTOOL)
	@command -v python3 > /dev/null || apt-get install -y --no-install-recommends python3
	PYTHONDONTWRITEBYTECODE=1 python3 eval/score.py --driftwatch bin/driftwatch --prometheus $(PROMETHEUS) --promtool $(PROMTOOL) $(ARGS)

# Without a bound on shortening what is found, the time of a target goes into its first input.
fuzz:
	@for pkg in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	go test -run '^$$' -fuzz "^$$f$$" -fuzztime 30s -fuzzminimizetime 5x $$pkg || exit 1; done; done

clean:
	rm -rf bin .cache tools/unleash/node_modules tools/browser/node_modules

FORCE:
