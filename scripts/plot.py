from transformer.commands.plot import main

if __name__ == "__main__":
    main()
