#!/bin/sh
# One question through a local `subrosa proxy`, with curl. The first argument is the model's name.
curl --silent --show-error --fail-with-body "$OPENAI_BASE_URL/chat/completions" \
  --header "authorization: Bearer $OPENAI_API_KEY" \
  --header 'content-type: application/json' \
  --data "{\"temperature\": 0, \"model\": \"${1:?usage: chat.sh MODEL}\", \"messages\": [{\"role\": \"user\", \"content\": \"What is the capital of France?\"}]}"
