import { DataError } from '@peftjs/core';
import type { Message } from './language-set.js';

/**
 * Writes a conversation as a model reads it, up to the words that open the assistant's next message where `addGenerationPrompt` is
 * set. What a conversation begins with must not change as it goes on.
 */
export type ChatTemplate = (messages: readonly Message[], options: { readonly addGenerationPrompt: boolean }) => string;

/** A piece of a text, and whether it is to be learnt. */
export interface Segment {
  readonly text: string;
  readonly learnt: boolean;
}

/** ChatML: each message between `<|im_start|>` with its role and `<|im_end|>`. */
export const chatML: ChatTemplate = (messages, { addGenerationPrompt }) => {
  const written = messages.map(({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`).join('');
  return addGenerationPrompt ? `${written}<|im_start|>assistant\n` : written;
};

/**
 * A conversation cut where the assistant begins and ends to speak: its messages are learnt, with what closes them.
 * @throws DataError for a template that rewrites the beginning of a conversation.
 */
export function chatSegments(messages: readonly Message[], template: ChatTemplate, name: string): Segment[] {
  const segments: Segment[] = [];
  let written = '';
  const add = (upTo: string, learnt: boolean): void => {
    if (!upTo.startsWith(written)) throw rewritten(name, written);
    segments.push({ text: upTo.slice(written.length), learnt });
    written = upTo;
  };
  messages.forEach(({ role }, index) => {
    if (role !== 'assistant') return;
    add(template(messages.slice(0, index), { addGenerationPrompt: true }), false);
    add(template(messages.slice(0, index + 1), { addGenerationPrompt: false }), true);
  });
  return segments;
}

function rewritten(name: string, written: string): DataError {
  const shown = JSON.stringify(written.slice(-60));
  const rule = 'expected the chat template to keep what it wrote as a conversation goes on';
  return new DataError(`${name}: ${rule}, but what ended in ${shown} changed; use another template`, name);
}
