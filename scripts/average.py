from transformer.commands.average import main

if __name__ == "__main__":
    main()
