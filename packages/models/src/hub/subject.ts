import { ConfigError } from '@peftjs/core';
import { shown } from '../json.js';

/** What a repository of the hub holds. */
export type RepoType = 'model' | 'dataset';

/** What the hub is asked for, as messages name it. */
export interface Subject {
  readonly repo: string;
  readonly type: RepoType;
  /** 'model' or 'data set'. */
  readonly what: string;
  readonly revision: string;
  /** The file, where it is one. */
  readonly file?: string;
}

/** Names as the hub allows them: no dots or hyphens at the ends, none of them twice. */
const NAME = /^(?!.*(?:--|\.\.))(?!.*\.git$)[\w](?:[\w.-]{0,94}[\w])?$/;

/** Whether a source reads as `organisation/name`, which neither a package nor a plain word does. */
export function isHubId(source: string): boolean {
  const parts = source.split('/');
  return parts.length === 2 && parts.every((part) => NAME.test(part));
}

/** A repository at a revision. @throws ConfigError for what cannot be one. */
export function subjectOf(repo: string, type: RepoType, revision: string): Subject {
  if (type !== 'model' && (type as string) !== 'dataset') {
    throw new ConfigError(`option 'type' is ${shown(type)}; expected 'model' or 'dataset'`, 'type');
  }
  if (!isHubId(repo) && !(typeof repo === 'string' && NAME.test(repo))) {
    throw new ConfigError(`option 'repo' is ${shown(repo)}; expected an id of the hub, organisation/name`, 'repo');
  }
  return { repo, type, revision, what: type === 'model' ? 'model' : 'data set' };
}

/** What messages call it: `organisation/name`, or a file of it. */
export function labelOf({ repo, file }: Subject): string {
  return file === undefined ? repo : `${repo}/${file}`;
}
