# lab: open the course · serve: start lesson 21's service · test: run every check · the rest is for
# authors; see CONTRIBUTING.md.
# ARGS goes to the program behind a target, as in: make lab ARGS="--no-browser --port 9999"
export PYTHON
SETUP = python=$$(sh tools/python.sh) && "$$python" tools/setup_environment.py
RUN = .venv/bin/python

.PHONY: lab serve test notebooks check record budgets robust site workshop lint clean
lab: ;       @$(SETUP) && $(RUN) tools/start_lab.py $(ARGS)
serve: ;     @$(SETUP) --serve && $(RUN) -m zoo_lessons.deploy.serving $(ARGS)
test: ;      @$(SETUP) --test && $(RUN) tools/offline.py $(RUN) tools/run_tests.py $(ARGS)
notebooks: ; @$(SETUP) --test && $(RUN) tools/notebooks.py build $(ARGS)
check: ;     @$(SETUP) --test && $(RUN) tools/notebooks.py check $(ARGS)
record: ;    @$(SETUP) && $(RUN) -m zoo_lessons.records $(ARGS)
budgets: ;   @$(SETUP) --test && $(RUN) -m tools.budgets measure $(ARGS)
robust: ;    @$(SETUP) --test && $(RUN) -m tools.robust $(ARGS)
site: ;      @$(SETUP) --site && $(RUN) -m tools.website $(ARGS)
workshop: ;  @$(SETUP) && $(RUN) -m tools.workshop $(ARGS)
lint: ;      @$(SETUP) --test && $(RUN) -m ruff check . && $(RUN) -m ruff format --check .
clean: ;     rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
