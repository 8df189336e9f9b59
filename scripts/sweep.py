from transformer.commands.sweep import main

if __name__ == "__main__":
    main()
