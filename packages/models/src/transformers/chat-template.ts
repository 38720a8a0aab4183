import { CheckpointError } from '@peftjs/core';
import { createChatTemplate, MAX_TEMPLATE, type ChatTemplate } from '../chat-template.js';
import type { ModelFolder } from '../folder.js';
import { field } from '../json.js';
import { contentOf, readTokenizerSettings } from './special-tokens.js';

/** A template that stands alone; it comes before one in the settings. */
const TEMPLATE_FILE = 'chat_template.jinja';
const SETTINGS_FILE = 'tokenizer_config.json';

/**
 * The chat template of a folder: chat_template.jinja, else `chat_template` of tokenizer_config.json, of several the one that is named
 * 'default'. Undefined where there is none.
 * @throws CheckpointError for a file that is too large or no text, and settings that are no JSON.
 */
export async function readChatTemplate(folder: ModelFolder): Promise<ChatTemplate | undefined> {
  const settings = await readTokenizerSettings(folder);
  const isAlone = await folder.exists(TEMPLATE_FILE);
  const source = isAlone ? await templateFile(folder) : templateIn(field(settings[0], 'chat_template'));
  if (source === undefined) return undefined;
  const file = folder.pathOf(isAlone ? TEMPLATE_FILE : SETTINGS_FILE);
  return createChatTemplate({ source, file, tokens: specialTokens(settings) });
}

async function templateFile(folder: ModelFolder): Promise<string> {
  const file = folder.pathOf(TEMPLATE_FILE);
  const bytes = await folder.bytes(TEMPLATE_FILE);
  if (bytes.length > 4 * MAX_TEMPLATE) {
    throw new CheckpointError(`${file}: expected at most ${4 * MAX_TEMPLATE} bytes, got ${bytes.length}`, file);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CheckpointError(`${file}: expected text in UTF-8`, file, cause);
  }
}

/** A template, or the default one of a list of `{ name, template }`. */
function templateIn(setting: unknown): string | undefined {
  const chosen: unknown = Array.isArray(setting)
    ? field(
        setting.find((one) => field(one, 'name') === 'default'),
        'template',
      )
    : setting;
  return typeof chosen === 'string' && chosen.trim() !== '' ? chosen : undefined;
}

/** The tokens that settings name, the first settings first. */
function specialTokens(settings: readonly unknown[]): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const one of settings) {
    if (typeof one !== 'object' || one === null) continue;
    for (const [name, token] of Object.entries(one)) {
      const content = contentOf(token);
      if (/^[a-z]+_token$/.test(name) && content !== undefined) tokens[name] ??= content;
    }
  }
  return tokens;
}
