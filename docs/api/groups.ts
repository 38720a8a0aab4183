import { DeclarationReflection, ReferenceReflection, ReferenceType, ReflectionKind, type Reflection } from 'typedoc';
import type { Entry } from './entries.js';
import { purposeOf } from './purposes.js';

/** Exports of one sort, by what they are for. */
export interface Group {
  readonly title: string;
  readonly purposes: readonly Purpose[];
}

interface Purpose {
  /** Empty where there is only one. */
  readonly title: string;
  readonly members: readonly DeclarationReflection[];
}

const sorts: Readonly<Record<string, (member: DeclarationReflection) => boolean>> = {
  Functions: isCallable,
  Values: (member) => member.kindOf(ReflectionKind.Variable) && !isCallable(member),
  Types: (member) => !member.kindOf([ReflectionKind.Function, ReflectionKind.Variable]) && !isError(member),
  Errors: isError,
};

/** So many are seen at a glance. */
const FEW = 8;

/** Fewer have no heading of their own. */
const ENOUGH = 3;

/** The exports of an entry: functions first, errors last, each by its purpose. What is only passed on is among them. */
export function grouped(entry: Entry, module: Reflection | undefined): Group[] {
  const members = module instanceof DeclarationReflection ? (module.children ?? []).map(described) : [];
  const sorted = members.sort((one, other) => one.name.localeCompare(other.name, 'en'));
  return Object.entries(sorts)
    .map(([title, belongs]) => ({ title, purposes: byPurpose(entry, sorted.filter(belongs)) }))
    .filter(({ purposes }) => purposes.length > 0);
}

/** Where an export is described. */
function described(member: DeclarationReflection): DeclarationReflection {
  const target = member instanceof ReferenceReflection ? member.getTargetReflectionDeep() : member;
  return target instanceof DeclarationReflection ? target : member;
}

function byPurpose(entry: Entry, members: readonly DeclarationReflection[]): Purpose[] {
  const byTitle = new Map<string, DeclarationReflection[]>();
  for (const member of members) {
    const title = purposeOf(entry, member);
    byTitle.set(title, [...(byTitle.get(title) ?? []), member]);
  }
  const named = [...byTitle]
    .map(([title, those]) => ({ title, members: those }))
    .filter((purpose) => members.length > FEW && purpose.members.length >= ENOUGH)
    .sort((one, other) => one.title.localeCompare(other.title, 'en'));
  const others = members.filter((member) => !named.some((purpose) => purpose.members.includes(member)));
  const rest = others.length > 0 ? [{ title: named.length > 0 ? 'More' : '', members: others }] : [];
  return [...named, ...rest];
}

function isCallable({ kind, type }: DeclarationReflection): boolean {
  if (kind === ReflectionKind.Function) return true;
  const declared = kind === ReflectionKind.Variable && type instanceof ReferenceType ? type.reflection : undefined;
  return declared instanceof DeclarationReflection && declared.signatures !== undefined;
}

function isError(member: DeclarationReflection): boolean {
  return member.kindOf(ReflectionKind.Class) && member.name.endsWith('Error');
}
