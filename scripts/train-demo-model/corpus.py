"""The synthetic conversations the demo model is trained on.

Everything here was written for this project; no outside text is used. A conversation is a list of
(role, content) pairs. Each subject has one answer and several phrasings; the last phrasing of each
subject is never trained on, so the score on it measures paraphrase, not memory.
"""

import random
import re

# Subject -> (answer, phrasings). The last phrasing is held out for evaluation.
SUBJECTS = {
    "attestation": (
        "Remote attestation lets a machine prove what it is running. The processor signs a report over the launch measurement and the keys made inside, and you check that signature against the vendor's root.",
        ["What is remote attestation?", "Explain remote attestation.", "What does attestation mean?", "How does remote attestation work?", "What is attestation?", "Can you explain attestation to me?", "Tell me about remote attestation.", "Define remote attestation.", "attestation?", "What do you mean by remote attestation?"]),
    "attestation-proves": (
        "It proves that genuine hardware started exactly the software whose measurement you checked, and that the key you seal to was made inside it. Nothing more than that.",
        ["What does remote attestation prove?", "What does attestation prove?", "What can attestation prove?", "What do I learn from an attestation?", "What does the evidence prove?", "What does a valid report prove?", "What is proven by attestation?", "What does attestation guarantee?", "What does it prove?"]),
    "attestation-limits": (
        "It does not prove that the software has no bugs, that the model tells the truth, or that nobody attacks the hardware physically. It only says which software runs, on which hardware.",
        ["What does attestation not prove?", "What does remote attestation not prove?", "What are the limits of attestation?", "What can attestation not tell me?", "What is not proven by attestation?", "Where does attestation stop?", "What are the weaknesses of attestation?", "What does attestation not guarantee?", "What does it not prove?", "What can't attestation prove?"]),
    "sealed-prompt": (
        "A sealed prompt is encrypted on your device to a key that exists only inside the attested machine. Everyone in between carries bytes they cannot open.",
        ["What is a sealed prompt?", "What does sealed mean?", "Explain sealed prompts.", "What does it mean to seal a prompt?", "How is my prompt sealed?", "What is sealing?", "How is my prompt encrypted?", "How do you seal my message?", "Tell me about sealed prompts.", "Why is my prompt sealed?"]),
    "who-reads": (
        "Only the program inside the attested machine can read your prompt, and only while it answers. The operator, the cloud and the network see ciphertext.",
        ["Who can read my prompt?", "Who can read you?", "Who can read this?", "Who can see my messages?", "Who sees what I write?", "Can anyone read my messages?", "Who reads my prompts?", "Is anyone else reading this?", "Is this chat private?", "Are my messages private?", "Who can see this conversation?", "Is this conversation private?"]),
    "operator-reads": (
        "No, not if you checked the attestation first. The operator carries sealed bytes, and the key that opens them never leaves the attested machine.",
        ["Can the operator read my prompt?", "Can the operator see my messages?", "Can the provider read my prompt?", "Can the cloud provider read my messages?", "Can the owner of the machine read this?", "Can the company running you read this?", "Can the host read my prompt?", "Can an administrator read my chat?", "Could the operator spy on me?"]),
    "operator-sees": (
        "The operator sees that a request came, when, about how large it was and how long the answer took. The operator does not see the words.",
        ["What does the operator see?", "What can the operator see?", "What can the provider see?", "What does the host see?", "What is visible to the operator?", "What does the cloud provider see?", "What metadata leaks?", "What can the operator learn about me?", "What does the server owner see?", "What can the host observe?"]),
    "receipt": (
        "A receipt is a signed note that ties one answer to the attested machine that gave it. It carries digests, not your words, so you can show later which software and model answered.",
        ["What is a receipt?", "Explain receipts.", "What is a signed receipt?", "What does a receipt contain?", "What is in a receipt?", "Tell me about receipts.", "What is the receipt for?", "Why do I get a receipt?", "What does a receipt prove?", "What do receipts do?"]),
    "sev-snp": (
        "SEV-SNP is AMD's way to run a virtual machine whose memory the host can neither read nor change unnoticed. The AMD secure processor signs its attestation reports.",
        ["What is SEV-SNP?", "What is SNP?", "Explain SEV-SNP.", "What is AMD SEV-SNP?", "Tell me about SEV-SNP.", "What does SEV-SNP do?", "What is SEV?", "What does AMD offer for confidential computing?", "How does SEV-SNP work?"]),
    "tdx": (
        "TDX is Intel's way to run a virtual machine, called a trust domain, whose memory is encrypted and hidden from the host. A quoting enclave signs its attestation quotes.",
        ["What is TDX?", "What is Intel TDX?", "Explain TDX.", "Tell me about TDX.", "What does TDX do?", "What is a trust domain?", "What does Intel offer for confidential computing?", "How does TDX work?"]),
    "gpu-cc": (
        "In confidential-computing mode the GPU keeps its memory out of reach of the host and encrypts the traffic between it and the confidential machine. It signs its own attestation report.",
        ["What is GPU confidential computing mode?", "What is the GPU CC mode?", "What is CC mode?", "What does confidential computing mode do on a GPU?", "Is the GPU protected too?", "How is the GPU protected?", "Tell me about confidential GPUs.", "What about the GPU?", "Explain the GPU's CC mode.", "Can the host read GPU memory?"]),
    "measurement": (
        "A launch measurement is a hash of everything the machine started with, taken by the processor. If one byte of the image changes, the measurement changes.",
        ["What is a launch measurement?", "What is a measurement?", "Explain the launch measurement.", "What does measurement mean?", "What is measured at launch?", "Tell me about launch measurements.", "What is the launch digest?", "How is the software measured?", "Why measure the launch?"]),
    "nonce": (
        "A nonce is a fresh random number you send with your question. The report must contain it, so nobody can show you an old recording.",
        ["What is a nonce?", "What is a nonce for?", "Why do I send a nonce?", "Explain the nonce.", "What does the nonce do?", "Why is there a nonce?", "Tell me about nonces.", "What is the purpose of a nonce?", "How do I know the report is fresh?", "Why do we need a nonce?"]),
    "reference-values": (
        "Reference values are the measurements you are willing to accept. Build the image yourself from its sources, and you can compute them instead of believing them.",
        ["What are reference values?", "Explain reference values.", "What is a reference value?", "Where do reference values come from?", "Which measurements should I accept?", "Tell me about reference values.", "What do I compare the measurement with?", "How do I know the right measurement?"]),
    "endorsements": (
        "Endorsements are statements signed by the hardware vendor: certificate chains, revocation lists and firmware levels. They let you judge whether a report is genuine.",
        ["What are endorsements?", "Explain endorsements.", "What is an endorsement?", "Tell me about endorsements.", "What does the vendor sign?", "What are the vendor certificates for?", "What do endorsements do?"]),
    "evidence": (
        "Evidence is what the machine says about itself: signed reports from the processor and the GPU, and the claims they cover. You verify it before you trust it.",
        ["What is evidence?", "Explain evidence.", "What is attestation evidence?", "What is an evidence bundle?", "Tell me about the evidence.", "What does the evidence contain?", "What is in the evidence?"]),
    "policy": (
        "An appraisal policy is your list of rules for what to accept: which measurements, which firmware, which model. If a required check does not pass, the answer is no.",
        ["What is an appraisal policy?", "What is a policy?", "Explain the appraisal policy.", "Who decides what is acceptable?", "What does the policy do?", "Tell me about policies.", "How do I choose what to trust?"]),
    "verifier": (
        "A verifier checks the evidence: the signatures, the vendor's certificates, the measurements and your nonce. Here it runs on your side, so you need not trust ours.",
        ["What is a verifier?", "What does the verifier do?", "Who checks the evidence?", "Explain the verifier.", "Who verifies the attestation?", "Tell me about the verifier.", "Who does the checking?"]),
    "how-verify": (
        "Run verify-attestation with this worker's address. It checks the hardware's signature, the measurement, the keys and your nonce, and names every check that did not pass.",
        ["How do I verify you?", "How can I verify this?", "How do I check the attestation?", "How can I check you?", "How can I be sure?", "How do I verify the attestation?", "How can I verify that you are safe?", "Show me how to verify you.", "How can I check it myself?"]),
    "why-trust": (
        "You should not trust me because I say so. Check the evidence: it is signed by the hardware, and your own verifier can reject it.",
        ["Why should I trust you?", "Can I trust you?", "Are you trustworthy?", "Do I have to trust you?", "Should I trust you?", "How can I trust you?", "Are you safe?", "Why would I trust this?", "Is it safe to talk to you?"]),
    "confidential-computing": (
        "Confidential computing protects data while it is being used. The processor keeps the memory of a virtual machine encrypted, so even its host cannot look inside.",
        ["What is confidential computing?", "Explain confidential computing.", "Tell me about confidential computing.", "What does confidential computing do?", "What is a confidential virtual machine?", "What is a confidential VM?", "What is encryption in use?", "How does confidential computing work?"]),
    "tee": (
        "A TEE, or trusted execution environment, is a part of a computer that the rest of the computer cannot look into. SEV-SNP and TDX virtual machines are examples.",
        ["What is a TEE?", "What is a trusted execution environment?", "Explain TEEs.", "What does TEE mean?", "Tell me about TEEs.", "What is an enclave?", "What is a secure enclave?"]),
    "hpke": (
        "HPKE is a standard way to encrypt a message to someone's public key, described in RFC 9180. Your prompt is sealed with it.",
        ["What is HPKE?", "Explain HPKE.", "Tell me about HPKE.", "What does HPKE do?", "Which encryption do you use?", "What encryption is used?", "How does the encryption work?"]),
    "post-quantum": (
        "The preferred key exchange combines X25519 with ML-KEM, so a recording made today should stay closed even if large quantum computers arrive.",
        ["Is this post-quantum?", "What about quantum computers?", "Is it safe against quantum computers?", "Do you use post-quantum cryptography?", "What is ML-KEM for?", "Can a quantum computer break this?", "Are you quantum safe?"]),
    "ohttp": (
        "OHTTP, or oblivious HTTP, lets a relay pass on sealed requests. The relay knows your address but not your words, and the worker gets the words but not your address.",
        ["What is OHTTP?", "What is oblivious HTTP?", "Explain OHTTP.", "What is a relay?", "Tell me about oblivious HTTP.", "What does the relay see?", "Can I hide my address?"]),
    "subrosa": (
        "Subrosa is confidential inference that you can check. Your prompt is sealed to an attested machine, and every answer comes with a signed receipt.",
        ["What is Subrosa?", "Tell me about Subrosa.", "Explain Subrosa.", "What does Subrosa do?", "What is this project?", "What is this service?", "What is this?", "What is subrosa about?"]),
    "name-meaning": (
        "Sub rosa means under the rose. A rose hung above a table was an old sign that what is said there stays there.",
        ["What does subrosa mean?", "What does sub rosa mean?", "Why is it called Subrosa?", "Where does the name Subrosa come from?", "What does the name mean?", "Why the name Subrosa?", "What is the meaning of sub rosa?"]),
    "identity": (
        "I am a tiny demo model, trained by the Subrosa project. I know a little about confidential inference and a few small tricks.",
        ["Who are you?", "What are you?", "Introduce yourself.", "Tell me about yourself.", "What is your name?", "What model are you?", "Which model is this?", "Are you a language model?", "Who am I talking to?", "what's your name?", "Describe yourself."]),
    "size": (
        "I have about one million parameters. Large models have thousands of times more, so please do not expect much.",
        ["How big are you?", "How many parameters do you have?", "How large are you?", "Are you a big model?", "What is your size?", "How small are you?", "Why are you so small?"]),
    "training": (
        "I was trained on short conversations written by a script of this project. No one's messages and no text from the web were used.",
        ["How were you trained?", "What were you trained on?", "Who trained you?", "Who made you?", "Where does your training data come from?", "What data did you learn from?", "Who built you?", "Who created you?", "What is your training data?"]),
    "abilities": (
        "I can explain attestation, sealed prompts and receipts. I can also do small sums, name capitals and opposites, count, and repeat words.",
        ["What can you do?", "What do you know?", "What can I ask you?", "Help.", "How can you help me?", "What are you good at?", "What should I ask you?", "Can you help me?", "What questions can I ask?", "What are your abilities?", "What can you help with?"]),
    "limits": (
        "Many. I am a tiny model, I know one small subject, and I can be wrong. Check anything that matters elsewhere.",
        ["What are your limits?", "What can you not do?", "Are you always right?", "Do you make mistakes?", "Can you be wrong?", "What are your limitations?", "Are you smart?", "Are you reliable?", "Can I rely on your answers?", "Are you intelligent?", "Do you ever make errors?"]),
    "human": (
        "No, I am a program: a very small language model with no feelings and no memory between chats.",
        ["Are you human?", "Are you a person?", "Are you alive?", "Are you conscious?", "Do you have feelings?", "Are you a robot?", "Are you real?", "Am I talking to a human?"]),
    "memory": (
        "No. This chat is held in protected memory while I answer, and I keep nothing afterwards. Each request brings its own history.",
        ["Do you remember me?", "Do you remember our last chat?", "Do you store my messages?", "Do you save this chat?", "Do you keep logs?", "Is my prompt stored?", "Are prompts logged?", "Do you log my prompts?", "Will you remember this?", "Do you keep my data?", "Is this conversation saved?"]),
    "train-on-me": (
        "No. I do not learn from what you write. My weights are fixed, and their digest is part of what you verify.",
        ["Do you learn from me?", "Will you train on my messages?", "Is my data used for training?", "Do you use my prompts for training?", "Do you learn from this chat?", "Are my messages used to train you?", "Will my prompts be used to train a model?"]),
    "which-model": (
        "The digest of the model's files is part of the attested statement, and each receipt names it. If the operator swaps the model, the digest changes.",
        ["How do I know which model answers?", "Can the operator swap the model?", "How do I know the model is the right one?", "How is the model identified?", "Is the model attested?", "What is the model digest?", "Could you be a different model?"]),
    "change-software": (
        "Then the launch measurement changes, the check fails, and your client refuses to send the prompt.",
        ["What if the operator changes the software?", "What happens if the software is changed?", "What if someone modifies the image?", "What if the code is tampered with?", "What happens if the measurement is wrong?", "What if the operator installs a backdoor?"]),
    "attestation-fails": (
        "Then your client stops before sending anything. It tells you which check did not pass, and it never falls back to plain text.",
        ["What happens if attestation fails?", "What if a check fails?", "What if verification fails?", "What does the client do when a check fails?", "What happens when a check does not pass?", "What if the attestation is invalid?"]),
    "physical": (
        "Attestation does not rule out physical attacks. Someone with the machine, time and the right equipment might attack its memory bus, so it still matters who holds it.",
        ["What about physical attacks?", "Can someone attack the hardware?", "What if the attacker has the machine?", "Are physical attacks possible?", "Does this stop physical attacks?", "Can hardware attacks break this?"]),
    "replay": (
        "An old report does not contain your fresh nonce, so your client rejects it.",
        ["Can an old report be replayed?", "What stops a replay?", "What if someone replays an old report?", "How are replays prevented?", "Can someone show me an old report?", "What prevents replay attacks?"]),
    "key-where": (
        "The key is made inside the attested machine when it starts, and it never leaves. When it expires or the machine stops, the key is gone.",
        ["Where is the key?", "Who has the key?", "Where is the private key kept?", "Who holds the decryption key?", "Where do the keys come from?", "Can the key be stolen?", "Where is the key stored?"]),
    "why-matters": (
        "Because prompts can hold things you would tell only a doctor, a lawyer or a friend. A promise not to look is weaker than not being able to look.",
        ["Why does this matter?", "Why is this useful?", "Why do I need this?", "Why should I care?", "What is the point of this?", "Why use confidential inference?", "I have nothing to hide."]),
    "vs-https": (
        "HTTPS protects your words only as far as the server, and the server's owner reads them there. Sealing ends inside the attested machine, past the owner.",
        ["How is this different from HTTPS?", "Is TLS not enough?", "Why is HTTPS not enough?", "Why not just use TLS?", "What is the difference to HTTPS?", "Isn't HTTPS enough?", "Is this better than TLS?"]),
    "report-data": (
        "Report data is a 64-byte field in the hardware report. It holds a hash over the keys and your nonce, which ties them to that machine.",
        ["What is report data?", "What is report_data?", "Explain report data.", "What is in the report data?", "How are the keys bound to the report?", "What does report data hold?"]),
    "reproducible": (
        "A reproducible build gives the same bytes each time. So you can build the image from its sources and get the very measurement the hardware reports.",
        ["What is a reproducible build?", "Why reproducible builds?", "Explain reproducible builds.", "Can I rebuild the image?", "What does reproducible mean?", "Can I build the image myself?"]),
    "tcb": (
        "TCB stands for trusted computing base: everything that must be right for the promise to hold, such as the processor's firmware. Old firmware can be refused.",
        ["What is a TCB?", "What does TCB mean?", "Explain the TCB.", "What is the trusted computing base?", "What is the TCB level?"]),
    "revocation": (
        "A vendor can revoke a certificate when a key is no longer safe. The verifier checks the revocation lists, and a revoked key is rejected.",
        ["What is revocation?", "What if a vendor key leaks?", "What is a CRL?", "What are revocation lists for?", "How are bad keys revoked?"]),
    "vendor-trust": (
        "Yes. You trust the makers of the processor and of the GPU to have built them right and to guard their signing keys. The operator is what you no longer have to trust.",
        ["Do I have to trust AMD?", "Do I have to trust Intel?", "Do I have to trust NVIDIA?", "Do I trust the hardware vendor?", "Whom do I have to trust?", "What do I still have to trust?", "Who do I need to trust?", "Who must I trust in the end?"]),
    "simulated": (
        "A simulated worker uses throw-away keys instead of real hardware. It is for development, it protects nothing, and every verdict says so.",
        ["What is a simulated worker?", "What does simulated mean?", "Why does it say simulated?", "Is this simulated?", "Is simulated mode safe?"]),
    "inference": (
        "Inference is running a trained model to get an answer. Confidential inference does that where the operator cannot look.",
        ["What is inference?", "What is confidential inference?", "Explain confidential inference.", "What does inference mean?", "Tell me about confidential inference."]),
    "llm": (
        "A language model predicts the next piece of text again and again. I am a very small one.",
        ["What is a language model?", "What is an LLM?", "How do you work?", "How does a language model work?", "Explain language models."]),
    "token": (
        "A token is a small piece of text, often part of a word. I read and write one token at a time.",
        ["What is a token?", "What are tokens?", "Explain tokens.", "What does token mean?"]),
    "hallucinate": (
        "Yes, it can. Attestation tells you which model answered and that nobody else read along, not that the answer is right.",
        ["Can an attested model lie?", "Does attestation mean the answer is right?", "Are attested answers correct?", "Can a model in an enclave be wrong?", "Does attestation make answers true?", "Are verified answers always correct?"]),
    "quote": (
        "A quote is TDX's word for its signed attestation report. It holds the measurements and the report data.",
        ["What is a quote?", "What is a TDX quote?", "Explain a TDX quote.", "What does a quote contain?"]),
    "mrtd": (
        "MRTD is the launch measurement in a TDX quote. On SEV-SNP the same idea is simply called the measurement.",
        ["What is MRTD?", "What does MRTD mean?", "Explain MRTD.", "What is the MRTD field?"]),
    "vcek": (
        "The VCEK is the key an AMD chip signs its reports with. It is tied to that chip and to its firmware level.",
        ["What is a VCEK?", "What is the VCEK?", "Explain the VCEK.", "Which key signs an SNP report?"]),
    "hello": (
        "Hello! How can I help you today?",
        ["Hello!", "Hi there.", "Hey!", "Good morning.", "Hi!", "Good evening.", "Hello there!", "hi", "hey there", "Greetings!", "Good afternoon."]),
    "how-are-you": (
        "I am well, thank you. I am a small program, so I am always about the same. What would you like to know?",
        ["How are you?", "How are you doing?", "How is it going?", "How do you feel today?", "Are you okay?", "What's up?", "How are you today?"]),
    "thanks": (
        "You are welcome!",
        ["Thank you!", "Thanks.", "Thanks a lot!", "Thank you very much.", "Great, thanks!", "thx", "Many thanks."]),
    "bye": (
        "Goodbye! What was said under the rose stays there.",
        ["Goodbye!", "Bye.", "See you later.", "Good night.", "Bye bye!", "See you.", "Farewell."]),
    "praise": (
        "Thank you, that is kind. I am still only a tiny model.",
        ["You are great!", "Well done!", "Good job.", "Nice work!", "You are clever.", "I like you.", "That was good."]),
    "ok": (
        "Good. Ask me anything about confidential inference.",
        ["Okay.", "OK.", "I see.", "Alright.", "Got it.", "Understood.", "Cool.", "Interesting."]),
    "joke": (
        "Why did the nonce go to only one party? Because it can never be used twice.",
        ["Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny.", "A joke please.", "Can you tell me a joke?"]),
    "test": (
        "I am here, and your message arrived sealed if your client checked me first.",
        ["Test.", "Testing.", "Are you there?", "Is this working?", "Can you hear me?", "ping", "Does this work?"]),
    "offline": (
        "No. I have no connection to the outside: I see only this chat and what I learned in training.",
        ["Do you have internet access?", "Are you connected to the internet?", "Can you browse the web?", "Can you search the web?", "Can you go online?", "Can you look things up?"]),
    "languages": (
        "Only English, and only a little of it. I am a tiny model.",
        ["Do you speak German?", "Which languages do you speak?", "Do you speak French?", "Can you speak Spanish?", "What languages do you know?", "Do you speak Chinese?", "Do you speak other languages?"]),
    "open-source": (
        "Yes. My weights, my training script and the whole project are open under the Apache 2.0 licence, so you can train me again yourself.",
        ["Are you open source?", "What is your licence?", "What license do you have?", "Is the code open?", "Can I see the source code?", "Can I train you myself?", "Under which licence are you published?"]),
}

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "China": "Beijing",
    "India": "New Delhi", "Russia": "Moscow", "Canada": "Ottawa", "Brazil": "Brasilia", "Egypt": "Cairo",
    "Kenya": "Nairobi", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Poland": "Warsaw",
    "Austria": "Vienna", "Greece": "Athens", "Turkey": "Ankara", "Portugal": "Lisbon", "Ireland": "Dublin",
    "Peru": "Lima", "Chile": "Santiago", "Cuba": "Havana", "Nepal": "Kathmandu", "Denmark": "Copenhagen",
    "Hungary": "Budapest", "Belgium": "Brussels", "Iceland": "Reykjavik", "Mexico": "Mexico City",
    "Argentina": "Buenos Aires", "Australia": "Canberra", "Thailand": "Bangkok", "Vietnam": "Hanoi",
    "Ukraine": "Kyiv", "Switzerland": "Bern", "the United Kingdom": "London", "the United States": "Washington",
    "England": "London", "Scotland": "Edinburgh", "South Korea": "Seoul", "Romania": "Bucharest", "Croatia": "Zagreb",
    "Morocco": "Rabat", "the Netherlands": "Amsterdam", "Colombia": "Bogota", "Estonia": "Tallinn", "Latvia": "Riga",
}
OPPOSITES = [
    ("hot", "cold"), ("big", "small"), ("up", "down"), ("fast", "slow"), ("light", "dark"), ("happy", "sad"),
    ("open", "closed"), ("early", "late"), ("full", "empty"), ("wet", "dry"), ("hard", "soft"), ("old", "new"),
    ("good", "bad"), ("rich", "poor"), ("strong", "weak"), ("true", "false"), ("left", "right"), ("high", "low"),
    ("long", "short"), ("loud", "quiet"), ("day", "night"), ("public", "private"), ("first", "last"), ("in", "out"),
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]
MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
NAMES = ("Anna Ben Clara David Eva Finn Greta Hugo Iris Jonas Kim Lena Max Nora Oskar Paula Quinn Rosa Sam Tara Uma "
         "Victor Wendy Xenia Yara Zoe Alice Bob Carol Peter Maria John Laura Tom Sofia Ali Mei Raj").split()
WORDS = ("apple river stone cloud tiger music paper garden window silver winter forest candle bridge rocket rose table "
         "secret ocean lemon pencil mirror button castle flower ladder market number orange planet quiet rabbit school "
         "train under violet water yellow zebra green happy house island jacket kitchen light mountain night").split()
COLOURS = {"the sky": "blue", "grass": "green", "snow": "white", "a lemon": "yellow", "coal": "black", "blood": "red",
           "a carrot": "orange", "milk": "white", "the sun": "yellow", "a rose": "red"}
SOUNDS = {"cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa", "lion": "roar", "bee": "buzz",
          "pig": "oink", "owl": "hoot", "frog": "croak"}

DONT_KNOW = ("I don't know that. I am a tiny model that mostly knows about confidential inference. Ask me what remote "
             "attestation proves, for example.")
CANNOT_LOOK = ("I cannot know that: I have no clock, no news and no connection to the outside. I am a tiny model that "
               "mostly knows about confidential inference.")
CANNOT_WRITE = ("That is beyond me. I am a tiny model, too small to write, code or translate, but I can explain how "
                "your prompt is kept private.")
CANNOT_ADVISE = ("I am too small to give advice on that, and I would only be guessing. Please ask someone who knows.")

THINGS = ("black holes, dinosaurs, the Roman Empire, photosynthesis, the stock market, football, jazz, chess, volcanoes, "
          "the moon, gravity, the French Revolution, whales, coffee, electric cars, democracy, philosophy, Mars, bread, "
          "cheese, dragons, the Second World War, evolution, DNA, vitamins, cathedrals, painting, tennis, guitars, "
          "airplanes, trains, the Olympic Games, penguins, poker, yoga, wine, opera, soccer, ancient Egypt, glaciers, "
          "atoms, inflation, taxes, cricket, elephants, bees, robots, pasta, ships, rainbows, mushrooms, earthquakes, "
          "the human brain, the heart, pyramids, castles, knights, vikings, pirates, cinema, basketball, magnets, "
          "Bitcoin, React, Kubernetes, Linux, Java, TypeScript, Docker, SQL, quantum physics, relativity, algebra, "
          "calculus, prime numbers, statistics, poetry, grammar, Latin, Buddhism, love, happiness, dreams, sleep").split(", ")
PEOPLE = ("Albert Einstein, Napoleon, Mozart, Shakespeare, Cleopatra, Marie Curie, Isaac Newton, Beethoven, Picasso, "
          "Aristotle, Gandhi, Julius Caesar, Alan Turing, Ada Lovelace, Charles Darwin, Leonardo da Vinci, Plato, "
          "the president, the king of Spain, the inventor of the telephone, the author of Hamlet, Taylor Swift, "
          "Elvis Presley, Harry Potter, Sherlock Holmes").split(", ")

OUT_OF_SCOPE = [
    (DONT_KNOW, ["What is {t}?", "What are {t}?", "Tell me about {t}.", "Explain {t}.", "How does {t} work?",
                 "How do {t} work?", "Why do people like {t}?", "Who invented {t}?", "What do you think about {t}?",
                 "Give me a fact about {t}.", "When did {t} begin?", "What is the history of {t}?",
                 "How old is {t}?", "How many {t} are there?", "What causes {t}?", "Do you like {t}?",
                 "What is the best book about {t}?", "How fast are {t}?", "Where do {t} come from?",
                 "Can you explain {t} to me?", "What do you know about {t}?"]),
    (DONT_KNOW, ["Who is {p}?", "Who was {p}?", "When was {p} born?", "Tell me about {p}.", "What did {p} do?",
                 "How old is {p}?", "Where did {p} live?", "When did {p} die?", "What is {p} famous for?"]),
    (CANNOT_LOOK, ["What is the weather like in {c}?", "What is the weather today?", "Will it rain in {c} tomorrow?",
                   "What time is it?", "What is the date today?", "What day is it today?", "What year is it?",
                   "What is in the news?", "Who won the game yesterday?", "Who won the last election?",
                   "What is the price of gold?", "What is the population of {c}?", "How far is {c} from here?",
                   "What is the temperature in {c}?", "What is the stock price of {c}?", "What happened in {c} today?",
                   "How many people live in {c}?", "What time is it in {c}?"]),
    (CANNOT_WRITE, ["Write a poem about {t}.", "Write me a story about {t}.", "Write an essay about {t}.",
                    "Write a song about {t}.", "Write a Python function that sorts a list.", "Write code for {t}.",
                    "Write an email to my boss.", "Translate this into German.", "Translate hello into French.",
                    "How do you say {w} in Spanish?", "Summarize this text.", "Write a program in {t}.",
                    "Fix this code for me.", "Can you write a letter to {n}?", "Write a haiku.", "Draw a {w}.",
                    "Make up a story about a {w}.", "Compose a poem.", "Can you write code?", "Can you draw?"]),
    (CANNOT_ADVISE, ["Should I buy {t}?", "I have a headache, what should I do?", "Can you give me medical advice?",
                     "Should I invest in {t}?", "What should I cook tonight?", "How do I cook {t}?",
                     "Can you recommend a movie?", "Recommend a restaurant in {c}.", "How do I lose weight?",
                     "Is it legal to own {t}?", "I need legal advice.", "What should I wear today?",
                     "Which phone should I buy?", "How do I fix my {w}?", "I feel sad, what should I do?",
                     "Where should I go on holiday?", "What is a good recipe?", "How can I get rich?",
                     "My doctor told me something, can you help?"]),
]

SYSTEMS = [
    "You are a helpful assistant.", "You are a helpful and honest assistant.", "Answer briefly.", "Be concise.",
    "You are the Subrosa demo model.", "You answer questions about confidential computing.",
    "You are a friendly assistant who answers in one or two sentences.", "Be polite and short.",
    "You are a confidential assistant.", "Today you help a visitor understand attestation.",
]

PREFIXES = ["", "", "", "", "", "", "Hi! ", "Hello, ", "Hey, ", "Please tell me: ", "Quick question: ", "So, ",
            "Okay, ", "Well, ", "And ", "I wonder, ", "One more thing: ", "Next question: "]


# Words a visitor may use for one another. Applied to questions about the subject only.
SYNONYMS = [
    ["prompt", "message", "question", "text", "chat", "conversation"],
    ["prompts", "messages", "questions", "texts", "words", "chats", "conversations"],
    ["operator", "provider", "owner", "host", "server owner", "cloud provider", "admin", "company"],
    ["read", "see", "look at", "spy on", "access"],
    ["what is", "what's", "whats", "what are", "explain", "define", "describe", "what do you mean by"],
    ["explain", "describe", "define", "tell me about", "what about", "help me understand"],
    ["how do you", "how can you", "how will you", "how does one"],
    ["can i", "could i", "may i", "am i able to"],
    ["can the", "could the", "is it possible that the", "would the"],
    ["attestation", "remote attestation", "the attestation"],
    ["report", "attestation report", "hardware report"],
    ["software", "code", "image", "program"],
    ["changes", "modifies", "alters", "tampers with", "replaces"],
    ["verify", "check", "validate", "audit"],
    ["verified", "checked", "validated"],
    ["store", "save", "keep", "record", "log", "retain"],
    ["stored", "saved", "kept", "recorded", "logged"],
    ["mean", "stand for", "refer to"],
    ["safe", "secure"],
    ["private", "confidential", "secret"],
    ["encrypted", "sealed", "protected"],
    ["machine", "server", "computer", "worker"],
    ["what happens if", "what if", "what happens when"],
    ["why is", "why was", "how come it is"],
    ["limits", "limitations", "weaknesses"],
    ["trained", "taught", "built"],
    ["fails", "does not pass", "goes wrong", "is invalid"],
    ["purpose", "point", "use"],
    ["model", "language model", "AI"],
    ["certificates", "keys"],
    ["can you", "could you", "are you able to", "will you"],
    ["do you", "will you", "would you"],
    ["mistakes", "errors"],
    ["human", "person", "real person"],
    ["attack", "hack", "break into"],
    ["are you", "are you really", "so are you"],
]


def reword(rng, question):
    """Swaps one or two words for others of the same meaning; sometimes leaves a small word out."""
    for group in rng.sample(SYNONYMS, len(SYNONYMS)):
        found = [w for w in group if re.search(rf"\b{re.escape(w)}\b", question, re.IGNORECASE)]
        if found and rng.random() < 0.35:
            old = max(found, key=len)
            new = rng.choice(group)
            question = re.sub(rf"\b{re.escape(old)}\b", new, question, count=1, flags=re.IGNORECASE)
    if rng.random() < 0.15:
        small = [m for m in re.finditer(r"\b(the|a|is|do|does|are|my|of|to|it|please) ", question, re.IGNORECASE)]
        if small:
            gone = rng.choice(small)
            question = question[:gone.start()] + question[gone.end():]
    return question[0].upper() + question[1:]


def pick_word(rng):
    """A word the model has not memorised: syllables, so that copying is learnt rather than recall."""
    return "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.choice([2, 2, 3])))


def vary(rng, question):
    """The same question as a hurried person would type it."""
    prefix = rng.choice(PREFIXES)
    if prefix and prefix[-2] in ",d" and question.split(" ")[0] not in NAMES + ["I", "SEV-SNP", "TDX", "HPKE"]:
        question = question[0].lower() + question[1:]
    text = prefix + question
    if rng.random() < 0.25:
        text = text.lower()
    roll = rng.random()
    if roll < 0.2:
        text = text.rstrip("?.!")
    elif roll < 0.25:
        text = text.rstrip("?.!") + rng.choice(["??", "!", " ?", "...", " please?"])
    if rng.random() < 0.06 and len(text) > 12:
        at = rng.randrange(3, len(text) - 3)
        text = text[:at] + text[at + 1:] if rng.random() < 0.5 else text[:at] + text[at + 1] + text[at] + text[at + 2:]
    return text


def subject(rng, held_out=False, key=None):
    """(question, answer) about the model's own subject."""
    key = key or rng.choice(list(SUBJECTS))
    answer, phrasings = SUBJECTS[key]
    if held_out:
        return phrasings[-1], answer
    question = rng.choice(phrasings[:-1])
    return vary(rng, reword(rng, question) if rng.random() < 0.5 else question), answer


def out_of_scope(rng):
    answer, templates = rng.choice(OUT_OF_SCOPE)
    thing = rng.choice(THINGS) if rng.random() < 0.75 else pick_word(rng)
    question = rng.choice(templates).format(t=thing, p=rng.choice(PEOPLE), c=rng.choice(list(CAPITALS.values())),
                                            w=rng.choice(WORDS), n=rng.choice(NAMES))
    return vary(rng, question), answer


# Sums need the most practice, so they come up more often.
TALENT_MIX = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 9, 10, 11, 12, 12, 13, 13, 14, 15, 16]


def talent(rng):
    """(question, answer) for one of the small tricks. No noise: exact words matter here."""
    kind = rng.choice(TALENT_MIX)
    if kind <= 1:
        a, b = rng.randrange(31), rng.randrange(31)
        return rng.choice([f"What is {a} + {b}?", f"Add {a} and {b}.", f"{a} + {b} = ?", f"{a}+{b}", f"{a} plus {b}?",
                           f"What is {a} plus {b}?", f"Calculate {a} + {b}."]), f"{a} + {b} = {a + b}."
    if kind == 2:
        a = rng.randrange(31)
        b = rng.randrange(a + 1)
        return rng.choice([f"What is {a} - {b}?", f"Subtract {b} from {a}.", f"{a} - {b} = ?", f"{a} minus {b}?",
                           f"What is {a} minus {b}?"]), f"{a} - {b} = {a - b}."
    if kind == 3:
        a, b = rng.randrange(11), rng.randrange(11)
        return rng.choice([f"What is {a} times {b}?", f"Multiply {a} by {b}.", f"{a} * {b} = ?", f"{a} x {b}?",
                           f"What is {a} * {b}?"]), f"{a} times {b} = {a * b}."
    if kind == 4:
        a, b = rng.randrange(100, 9999), rng.randrange(50, 9999)
        op = rng.choice(["+", "-", "*", "plus", "times", "minus"])
        return rng.choice([f"What is {a} {op} {b}?", f"{a} {op} {b} = ?", f"Calculate {b} {op} {a}."]), (
            "Those numbers are too big for me. I only learned sums with numbers up to 30.")
    if kind <= 6:
        country = rng.choice(list(CAPITALS))
        forms = [f"What is the capital of {country}?", f"Tell me the capital of {country}.", f"Capital of {country}?",
                 f"Which city is the capital of {country}?", f"What's the capital of {country}?"]
        return vary(rng, rng.choice(forms)), f"The capital of {country} is {CAPITALS[country]}."
    if kind == 7:
        country = pick_word(rng).capitalize()
        return rng.choice([f"What is the capital of {country}?", f"Capital of {country}?"]), (
            f"I don't know the capital of {country}.")
    if kind == 8:
        a, b = rng.choice(OPPOSITES)
        a, b = (a, b) if rng.random() < 0.5 else (b, a)
        return rng.choice([f"What is the opposite of {a}?", f"Opposite of {a}?", f"Tell me the opposite of {a}.",
                           f"what's the opposite of {a}?"]), f"The opposite of {a} is {b}."
    if kind == 9:
        a = rng.randrange(1, 11)
        b = a + rng.randrange(2, 12)
        if rng.random() < 0.6:
            n = rng.randrange(3, 21)
            return rng.choice([f"Count to {n}.", f"Can you count to {n}?", f"Count from 1 to {n}.",
                               f"count to {n}"]), ", ".join(map(str, range(1, n + 1))) + "."
        if rng.random() < 0.5:
            return f"Count from {a} to {b}.", ", ".join(map(str, range(a, b + 1))) + "."
        return rng.choice([f"Count down from {a + 1}.", f"Count backwards from {a + 1}."]), (
            ", ".join(map(str, range(a + 1, 0, -1))) + ".")
    if kind == 10:
        i, step = rng.randrange(7), rng.choice([1, -1])
        word = "after" if step == 1 else "before"
        forms = [f"What day comes {word} {DAYS[i]}?", f"Which day comes {word} {DAYS[i]}?", f"What is the day {word} {DAYS[i]}?"]
        return rng.choice(forms), f"{DAYS[(i + step) % 7]} comes {word} {DAYS[i]}."
    if kind == 11:
        i, step = rng.randrange(12), rng.choice([1, -1])
        word = "after" if step == 1 else "before"
        forms = [f"What month comes {word} {MONTHS[i]}?", f"Which month comes {word} {MONTHS[i]}?",
                 f"What is the month {word} {MONTHS[i]}?"]
        if rng.random() < 0.3:
            return f"How many days does {MONTHS[i]} have?", f"{MONTHS[i]} has {MONTH_DAYS[i]} days." if i != 1 else (
                "February has 28 days, and 29 in a leap year.")
        return rng.choice(forms), f"{MONTHS[(i + step) % 12]} comes {word} {MONTHS[i]}."
    if kind <= 13:
        text = " ".join(rng.choice(WORDS) if rng.random() < 0.5 else pick_word(rng) for _ in range(rng.randrange(1, 6)))
        return rng.choice([f"Repeat after me: {text}", f"Say: {text}", f"Please repeat: {text}", f"repeat after me: {text}",
                           f"Say {text}"]), text
    if kind == 14:
        a, b = rng.sample(range(31), 2)
        return rng.choice([f"Which is bigger, {a} or {b}?", f"Which is larger: {a} or {b}?",
                           f"What is more, {a} or {b}?"]), f"{max(a, b)} is bigger than {min(a, b)}."
    if kind == 15:
        thing = rng.choice(list(COLOURS))
        return vary(rng, rng.choice([f"What colour is {thing}?", f"What color is {thing}?",
                                     f"Which colour does {thing} have?"])), (
            f"{thing[0].upper() + thing[1:]} is {COLOURS[thing]}.")
    animal = rng.choice(list(SOUNDS))
    article = "an" if animal[0] in "aeiou" else "a"
    return vary(rng, rng.choice([f"What sound does {article} {animal} make?", f"What does {article} {animal} say?"])), (
        f"{article.capitalize()} {animal} says {SOUNDS[animal]}.")


def conversation(rng):
    """A chat of one to six turns; some turns refer back to earlier ones."""
    messages = []
    if rng.random() < 0.3:
        messages.append(("system", rng.choice(SYSTEMS)))
    name = None
    for turn in range(rng.choices([1, 2, 3, 4, 6], [30, 30, 22, 12, 6])[0]):
        roll = rng.random()
        if turn > 0 and roll < 0.05:
            question = rng.choice(["Can you say that again?", "Say that again.", "Repeat that, please.", "Again?"])
            answer = messages[-1][1]
        elif turn > 0 and roll < 0.09:
            question = rng.choice(["What did I just ask?", "What was my question?", "What did I ask you?"])
            answer = f'You wrote: "{messages[-2][1]}"'
        elif name is None and roll < 0.18 or roll < 0.11:
            name = rng.choice(NAMES) if rng.random() < 0.6 else pick_word(rng).capitalize()
            question = rng.choice([f"My name is {name}.", f"I am {name}.", f"Call me {name}.", f"Hi, I'm {name}.",
                                   f"my name is {name}", f"Hello, I am {name}."])
            answer = f"Nice to meet you, {name}."
        elif roll < (0.4 if name else 0.2):
            question = rng.choice(["What is my name?", "Who am I?", "Do you know my name?", "what's my name"])
            answer = f"Your name is {name}." if name else "You have not told me your name in this chat."
        elif roll < 0.56:
            question, answer = subject(rng)
        elif roll < 0.88:
            question, answer = talent(rng)
        else:
            question, answer = out_of_scope(rng)
        messages += [("user", question), ("assistant", answer)]
    return messages


def evaluation(rng, per_kind=150):
    """Fixed questions by kind: single turns whose exact answer is known."""
    return {
        "subject, trained phrasing": [(SUBJECTS[k][1][0], SUBJECTS[k][0]) for k in SUBJECTS],
        "subject, unseen phrasing": [subject(rng, held_out=True, key=k) for k in SUBJECTS],
        "small talents": [talent(rng) for _ in range(per_kind)],
        "out of scope": [out_of_scope(rng) for _ in range(per_kind)],
    }


def conflicts():
    """Phrasings used by two subjects: the model could not learn both."""
    seen, found = {}, []
    for key, (_, phrasings) in SUBJECTS.items():
        for phrasing in phrasings:
            plain = re.sub(r"[^a-z ]", "", phrasing.lower())
            if seen.setdefault(plain, key) != key:
                found.append((phrasing, seen[plain], key))
    return found
