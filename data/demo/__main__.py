"""Draw a contact sheet: `python -m data.demo --sheet people.png`."""

import argparse

from data.demo.synthetic import sheet

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Draw a contact sheet of demo people.')
    parser.add_argument('--sheet', required=True, help='the PNG to write')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--count', type=int, default=6, help='identities, one per row')
    args = parser.parse_args()
    sheet(args.seed, args.count).save(args.sheet)
