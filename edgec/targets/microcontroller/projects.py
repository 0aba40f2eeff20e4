"""Folders that build systems take: CMake and make, Arduino, Zephyr."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.forms import Folder
from edgec.targets.microcontroller.generate import Generated
from edgec.targets.microcontroller.selftest import Golden, golden_text, main_text

__all__ = ["project"]


def project(
    generated: Generated, core: Core, form: Folder = "plain", golden: Golden | None = None
) -> Mapping[str, str]:
    """Return the files of a folder by their paths in it.

    Parameters
    ----------
    golden
        A run that is known to be right: it brings a self-test.
    """
    forms = {"plain": _plain, "arduino": _arduino, "zephyr": _zephyr}
    return MappingProxyType(forms[form](generated, core, golden))


def _sources(generated: Generated) -> list[str]:
    return [name for name in generated.files if name.endswith(".c")]


def _flags(core: Core) -> str:
    return " ".join(["-O2", *core.compiler])


# ---- plain


def _plain(generated: Generated, core: Core, golden: Golden | None) -> dict[str, str]:
    files = dict(generated.files)
    files["CMakeLists.txt"] = _cmake(generated, golden is not None)
    files["Makefile"] = _makefile(generated, core, golden is not None)
    if golden is not None:
        files[f"{generated.prefix}_golden.h"] = golden_text(generated, golden)
        files["main.c"] = main_text(generated)
    return files


def _cmake(generated: Generated, tested: bool) -> str:
    prefix = generated.prefix
    sources = " ".join(_sources(generated))
    text = f"""\
# Add this folder with add_subdirectory() and link to {prefix}.
cmake_minimum_required(VERSION 3.13)
project({prefix} C)

add_library({prefix} STATIC {sources})
target_include_directories({prefix} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
target_compile_features({prefix} PUBLIC c_std_99)
"""
    if tested:
        text += f"""
option({prefix.upper()}_SELFTEST "Build the self-test of {prefix}" OFF)
if({prefix.upper()}_SELFTEST)
  add_executable({prefix}_selftest main.c)
  target_link_libraries({prefix}_selftest PRIVATE {prefix})
endif()
"""
    return text


def _makefile(generated: Generated, core: Core, tested: bool) -> str:
    prefix = generated.prefix
    objects = " ".join(name.removesuffix(".c") + ".o" for name in _sources(generated))
    portable = all(layer.tier == "portable" for layer in generated.layers)
    here = (
        ""
        if portable
        else "\n# The kernels are for that core: other processors do not take them."
    )
    text = f"""\
# For {core.name}, with GCC:
#   make CC=arm-none-eabi-gcc AR=arm-none-eabi-ar CFLAGS="{_flags(core)}"{here}

CFLAGS ?= -O2
WARNINGS = -std=c99 -Wall -Wextra -Wconversion

lib{prefix}.a: {objects}
\t$(AR) rcs $@ $^

%.o: %.c {prefix}.h
\t$(CC) $(CFLAGS) $(WARNINGS) -c -o $@ $<
"""
    clean = f"lib{prefix}.a {objects}"
    if tested:
        text += f"""
# Exits with 0 if the output is what it should be.
selftest: main.o lib{prefix}.a
\t$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^

main.o: {prefix}_golden.h
"""
        clean += " main.o selftest"
    return f"{text}\nclean:\n\trm -f {clean}\n\n.PHONY: clean\n"


# ---- libraries


def _arduino(generated: Generated, core: Core, golden: Golden | None) -> dict[str, str]:
    """Return a library for Arduino's libraries folder."""
    prefix = generated.prefix
    files = {f"src/{name}": text for name, text in generated.files.items()}
    files["library.properties"] = f"""\
name={prefix}
version=1.0.0
author=generated
maintainer=generated
sentence=A neural network as C code.
paragraph=Include {prefix}.h; it tells sizes, scales and zero points.
category=Data Processing
url=
architectures=*
includes={prefix}.h
"""
    if golden is not None:
        files[f"examples/selftest/{prefix}_golden.h"] = golden_text(generated, golden)
        files["examples/selftest/selftest.ino"] = f"""\
// Runs {prefix} on golden inputs and says whether the output is what it should be.
#include "{prefix}_golden.h"

void setup() {{
  Serial.begin(115200);
  while (!Serial) {{
  }}
  const unsigned long begin = micros();
  const int32_t wrong = {prefix}_selftest();
  const unsigned long end = micros();
  Serial.print(wrong == 0 ? "right" : "WRONG");
  Serial.print(", microseconds: ");
  Serial.println(end - begin);
}}

void loop() {{
}}
"""
    return files


def _zephyr(generated: Generated, core: Core, golden: Golden | None) -> dict[str, str]:
    """Return a module for Zephyr, with the self-test as a sample."""
    prefix = generated.prefix
    option = prefix.upper()
    sources = " ".join(f"../src/{name}" for name in _sources(generated))
    files = {f"src/{name}": text for name, text in generated.files.items()}
    files["zephyr/module.yml"] = f"""\
name: {prefix}
build:
  cmake: zephyr
  kconfig: zephyr/Kconfig
"""
    files["zephyr/Kconfig"] = f"""\
config {option}
\tbool "The neural network {prefix}"
"""
    files["zephyr/CMakeLists.txt"] = f"""\
if(CONFIG_{option})
  zephyr_library_named({prefix})
  zephyr_library_sources({sources})
  zephyr_include_directories(../src)
endif()
"""
    if golden is not None:
        folder = "samples/selftest"
        files[f"{folder}/CMakeLists.txt"] = f"""\
cmake_minimum_required(VERSION 3.20.0)
list(APPEND ZEPHYR_EXTRA_MODULES ${{CMAKE_CURRENT_SOURCE_DIR}}/../..)
find_package(Zephyr REQUIRED HINTS $ENV{{ZEPHYR_BASE}})
project({prefix}_selftest)
target_sources(app PRIVATE src/main.c)
"""
        files[f"{folder}/prj.conf"] = f"CONFIG_{option}=y\nCONFIG_PRINTK=y\n"
        files[f"{folder}/src/{prefix}_golden.h"] = golden_text(generated, golden)
        files[f"{folder}/src/main.c"] = f"""\
/* Runs {prefix} on golden inputs and says whether the output is what it should be. */

#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>

#include "{prefix}_golden.h"

int main(void)
{{
    const uint32_t begin = k_cycle_get_32();
    const int32_t wrong = {prefix}_selftest();
    const uint32_t end = k_cycle_get_32();

    printk("%s, cycles: %u\\n", wrong == 0 ? "right" : "WRONG", (unsigned int)(end - begin));
    return 0;
}}
"""
    return files
