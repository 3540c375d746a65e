"""What the tests of the report share."""

import jinja2
import pytest


@pytest.fixture(scope="session", autouse=True)
def templates_compiled_once():
    """The report's template takes longer to compile than to fill; each text of it is compiled once."""
    compiled, compile_template = {}, jinja2.Environment.compile

    def once(self, source, name=None, filename=None, **how):
        key = str(source), name, *sorted(self.filters)
        if key not in compiled:
            compiled[key] = compile_template(self, source, name, filename, **how)
        return compiled[key].replace(co_filename=filename or "<template>")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "compile", once)
        yield
