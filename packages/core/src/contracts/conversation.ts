/** The messages of a conversation and the tools in it, in the JSON forms of transformers. */
import { describe } from '../config.js';

/** One message of a conversation. All fields reach the chat template, which decides which of them it reads. */
export interface ChatMessage {
  /** Usually 'system', 'user', 'assistant' or 'tool': the template decides which roles exist. */
  readonly role: string;
  /** The text of the message; only a message with tool calls may be without. */
  readonly content?: string | null | undefined;
  /** What the assistant thought before it answered, for templates that write it. */
  readonly reasoning_content?: string | null | undefined;
  /** The tools that the assistant calls. */
  readonly tool_calls?: readonly ChatToolCall[] | null | undefined;
  /** The ID of the call that a tool's message answers. */
  readonly tool_call_id?: string | null | undefined;
  /** The name of the tool or the speaker. */
  readonly name?: string | null | undefined;
  /** Other fields that a template may read, as JSON. */
  readonly [field: string]: unknown;
}

/** A call of a tool by the assistant. */
export interface ChatToolCall {
  /** The ID that the tool's message repeats. */
  readonly id?: string | undefined;
  /** The kind of tool. */
  readonly type?: 'function' | undefined;
  /** The function to call. */
  readonly function: {
    /** Its name. */
    readonly name: string;
    /** Its arguments by name; some templates take them as JSON text. */
    readonly arguments?: Readonly<Record<string, unknown>> | string | undefined;
  };
}

/** A tool that the assistant may call. */
export interface ChatTool {
  /** The kind of tool. */
  readonly type: 'function';
  /** The function. */
  readonly function: {
    /** Its name. */
    readonly name: string;
    /** What it does. */
    readonly description?: string | undefined;
    /** A JSON schema of its arguments. */
    readonly parameters?: Readonly<Record<string, unknown>> | undefined;
    /** Other fields that a template may read, e.g. `return`. */
    readonly [field: string]: unknown;
  };
}

/** The form of a tool, for error messages. */
const TOOL = '{ "type": "function", "function": { "name": .., "parameters": .. } }';
const CALL = '{ "type": "function", "function": { "name": .., "arguments": .. } }';
const TEXTS = ['reasoning_content', 'tool_call_id', 'name'];

/** Returns what is wrong with the messages of a conversation and its tools. Undefined if nothing is. */
export function conversationProblem(messages: unknown, tools?: unknown): string | undefined {
  if (!Array.isArray(messages)) {
    return `expected a list of messages like { role: "user", content: "Who was it?" }, got ${describe(messages)}`;
  }
  const problems = messages.map(messageProblem);
  const at = problems.findIndex((problem) => problem !== undefined);
  return at < 0 ? toolsProblem(tools) : `message ${at + 1}: ${problems[at] ?? ''}`;
}

/** Returns what is wrong with a message, as "expected .., got ..". Undefined if nothing is. */
export function messageProblem(message: unknown): string | undefined {
  if (!isRecord(message)) return `expected a message with a role and a content, got ${describe(message)}`;
  const { role, content, tool_calls: calls } = message;
  if (typeof role !== 'string') return `expected 'role' to be a string, got ${describe(role)}`;
  if (isGiven(calls)) {
    if (!Array.isArray(calls)) return `expected 'tool_calls' to be a list like [${CALL}], got ${describe(calls)}`;
    const odd = calls.findIndex((call) => !isCall(call));
    if (odd >= 0) return `expected 'tool_calls[${odd}]' to be like ${CALL}, got ${describe(calls[odd])}`;
  }
  if (isGiven(content) || !(Array.isArray(calls) && calls.length > 0)) {
    if (typeof content !== 'string') return `expected 'content' to be a string, got ${describe(content)}`;
  }
  const odd = TEXTS.find((name) => isGiven(message[name]) && typeof message[name] !== 'string');
  return odd === undefined ? undefined : `expected '${odd}' to be a string, got ${describe(message[odd])}`;
}

/** Returns what is wrong with the tools of a conversation. Undefined if nothing is, or if there are none. */
export function toolsProblem(tools: unknown): string | undefined {
  if (!isGiven(tools)) return undefined;
  if (!Array.isArray(tools)) return `expected 'tools' to be a list like [${TOOL}], got ${describe(tools)}`;
  const odd = tools.findIndex((tool) => !isTool(tool));
  return odd < 0 ? undefined : `expected 'tools[${odd}]' to be like ${TOOL}, got ${describe(tools[odd])}`;
}

function isTool(tool: unknown): boolean {
  if (!isRecord(tool) || tool.type !== 'function' || !isRecord(tool.function)) return false;
  const { name, parameters } = tool.function;
  return typeof name === 'string' && (!isGiven(parameters) || isRecord(parameters));
}

function isCall(call: unknown): boolean {
  if (!isRecord(call) || (isGiven(call.type) && call.type !== 'function') || !isRecord(call.function)) return false;
  const { name, arguments: given } = call.function;
  return typeof name === 'string' && (!isGiven(given) || typeof given === 'string' || isRecord(given));
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}
