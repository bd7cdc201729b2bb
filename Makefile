# The project's commands. Each is a small script in scripts/; CONTRIBUTING.md says what they do and how long they take.
# YES=1 answers the question asked before system packages are installed; OFFLINE=1 does without the Debian guests.
.PHONY: demo test boots soak bench symbols exports report-test models counts readme man completions install check-costs
.PHONY: build guests deps lint clean distclean
.NOTPARALLEL:

demo:
	scripts/demo

test: build guests
	scripts/test

boots: build guests
	scripts/boots

symbols: build guests
	scripts/symbols

exports: build guests
	scripts/exports

# The report as a browser shows it.
report-test: build
	scripts/install-deps report
	scripts/report-test

soak: build guests
	scripts/soak

bench: build guests
	scripts/install-deps bench
	scripts/bench

# The models' prices of single operations, held against published ones.
check-costs: build
	scripts/check-costs

models: build guests
	scripts/models

# How often each instruction was executed, held against a count by QEMU.
counts: build guests
	scripts/install-deps counts
	scripts/counts

# Every command of README.md and docs/tutorial.md.
readme: build guests
	scripts/readme

man: build
	scripts/manual man

completions: build
	scripts/manual completions

# PREFIX=/usr/local DESTDIR=
install: build
	scripts/install

# The one form in which everything is built; tests then run with --skip-build. CONTRIBUTING.md says why no other.
build: deps
	swift build -c release --build-tests

guests:
	scripts/fetch-guests
	$(wildcard scripts/build-guests)

deps:
	scripts/install-deps

lint:
	scripts/lint

clean:
	rm -rf .build $(addprefix .cache/,boots soak bench symbols models counts differences replays exports report demo readme share)

# Also the downloaded guests.
distclean: clean
	rm -rf .cache
