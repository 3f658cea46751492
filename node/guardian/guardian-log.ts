/** What the guardian and the processes that it watches say to the operator: fields for programs, a sentence for people. */
export interface GuardianLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}
