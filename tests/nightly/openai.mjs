// The npm package `openai`: Chat Completions and Responses, plain, streamed, with a tool call.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const model = "auto";
const messages = [{ role: "user", content: "Capital of France?" }];
const parameters = { type: "object", properties: { location: { type: "string" } }, required: ["location"] };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];

const { data: plain, response } = await client.chat.completions.create({ model, messages }).withResponse();

let streamed = "";
let usage = null;
const options = { include_usage: true };
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, stream_options: options })) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}

const runner = client.chat.completions.stream({ model, messages, tools });
const [call] = (await runner.finalChatCompletion()).choices[0].message.tool_calls;

let responded = "";
for await (const event of await client.responses.create({ model, input: "Capital of France?", stream: true })) {
  if (event.type === "response.output_text.delta") responded += event.delta;
}

console.log(JSON.stringify({
  texts: [plain.choices[0].message.content, streamed, (await client.responses.create({ model, input: "x" })).output_text, responded],
  tools: [[call.function.name, JSON.parse(call.function.arguments)]],
  tokens: [plain.usage.completion_tokens, usage.completion_tokens],
  rule: response.headers.get("x-policyroute-rule"),
  models: (await client.models.list()).data.map((each) => each.id),
}));
