// Vercel's npm package `ai` with `@ai-sdk/openai-compatible`: plain, streamed, with a tool call.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, streamText, tool } from "ai";

let rule = null;
const watched = async (...asked) => {
  const response = await fetch(...asked);
  rule = response.headers.get("x-policyroute-rule");
  return response;
};
const provider = createOpenAICompatible({ name: "route", baseURL: `${process.argv[2]}/v1`, apiKey: "none", includeUsage: true, fetch: watched });
const asked = { model: provider("auto"), prompt: "Capital of France?", maxRetries: 0 };
const properties = { location: { type: "string" } };
const tools = { get_weather: tool({ inputSchema: jsonSchema({ type: "object", properties, required: ["location"] }) }) };

const plain = await generateText(asked);

let streamed = "";
const stream = streamText({ ...asked, onError: ({ error }) => { throw error; } });
for await (const piece of stream.textStream) streamed += piece;

const called = await generateText({ ...asked, tools });
const calledInStream = streamText({ ...asked, tools, onError: ({ error }) => { throw error; } });
await calledInStream.consumeStream();
const calls = [...called.toolCalls, ...(await calledInStream.toolCalls)];

console.log(JSON.stringify({
  texts: [plain.text, streamed],
  tools: calls.map((call) => [call.toolName, call.input]),
  tokens: [plain.usage.outputTokens, (await stream.usage).outputTokens],
  rule,
  models: null,
}));
