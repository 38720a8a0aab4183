// A tool that looks words up, conversations that use it, and a chat template that has a place for both.
import type { ChatMessage, ChatTool, ChatToolCall } from 'peftjs';

/** What the model is told about the tool. */
export const tool: ChatTool = {
  type: 'function',
  function: {
    name: 'define',
    description: 'Looks a word up in the dictionary',
    parameters: { type: 'object', properties: { word: { type: 'string' } }, required: ['word'] },
  },
};

/** A message of a row to train on. */
export interface Message extends ChatMessage {
  readonly role: 'user' | 'assistant' | 'tool';
}

/** Returns a row to train on: the assistant calls the tool, and answers with what the tool found. */
export function conversation(word: string, definition: string): { messages: Message[]; tools: ChatTool[] } {
  const call: ChatToolCall = { type: 'function', function: { name: 'define', arguments: { word } } };
  return {
    messages: [
      { role: 'user', content: `What does "${word}" mean?` },
      { role: 'assistant', tool_calls: [call] },
      { role: 'tool', content: definition },
      { role: 'assistant', content: `The dictionary says that "${word}" means ${definition}.` },
    ],
    tools: [tool],
  };
}

/** Writes a conversation as ChatML with tools, similar to Qwen's: the template of SmolLM2-135M-Instruct has none. */
export function template(
  messages: readonly ChatMessage[],
  options: { readonly addGenerationPrompt: boolean; readonly tools?: readonly ChatTool[] | undefined },
): string {
  const { addGenerationPrompt, tools = [] } = options;
  const offered = tools.map((each) => `${JSON.stringify(each)}\n`).join('');
  const system = offered && `<|im_start|>system\nTools that you may call:\n${offered}<|im_end|>\n`;
  const turns = messages.map(({ role, content, tool_calls: calls }) => {
    const called = (calls ?? []).map((call) => `<tool_call>${JSON.stringify(call.function)}</tool_call>`);
    return `<|im_start|>${role}\n${content ?? ''}${called.join('\n')}<|im_end|>\n`;
  });
  return `${system}${turns.join('')}${addGenerationPrompt ? '<|im_start|>assistant\n' : ''}`;
}

/** Returns the call in an answer; undefined if there is none. */
export function callIn(answer: string): ChatToolCall | undefined {
  const [, json] = /<tool_call>(\{.*\})<\/tool_call>/s.exec(answer) ?? [];
  try {
    return json === undefined
      ? undefined
      : { type: 'function', function: JSON.parse(json) as ChatToolCall['function'] };
  } catch {
    return undefined;
  }
}
