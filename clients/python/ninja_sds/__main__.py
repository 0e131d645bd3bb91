"""python3 -m ninja_sds: query from the command line. Every service found is one line of JSON."""

import argparse
import json
import sys

from . import Client, NinjaError


def main():
    parser = argparse.ArgumentParser(prog="ninja_sds", description="Find services: one line of JSON for each.")
    parser.add_argument("template", nargs="?", default="", help="a partial XML document that the description must contain")
    parser.add_argument("--home", help="directory of your identity (NINJA_HOME, ~/.ninja)")
    parser.add_argument("--sds", help="the server's address; else the one that was used last")
    parser.add_argument("--manager", help="the capability manager's address; likewise; '' for none")
    parser.add_argument("--xpath", default="", help="an expression that must be true")
    parser.add_argument("--by", default="", help="only services of this owner")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--order-by", default="")
    parser.add_argument("--descending", action="store_true")
    parser.add_argument("--count", action="store_true", help="print only how many there are")
    a = parser.parse_args()
    try:
        with Client(a.home, a.sds, a.manager) as client:
            if a.count:
                print(client.count(a.template, xpath=a.xpath, by=a.by))
                return 0
            for f in client.query(
                a.template, xpath=a.xpath, by=a.by, limit=a.limit, order_by=a.order_by, descending=a.descending
            ):
                print(json.dumps({
                    "id": f.id, "version": f.version, "age": f.age, "numbers": f.numbers,
                    "description": f.description.decode("utf-8", "replace"),
                }))
    except NinjaError as error:
        print(f"ninja_sds: {error}", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
