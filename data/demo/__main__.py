"""Draw a contact sheet: `python -m data.demo --sheet people.png`."""

from data.demo.synthetic import main

if __name__ == '__main__':
    main()
